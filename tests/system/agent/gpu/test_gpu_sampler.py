"""The sampler with its real child, the real binding and a stand-in for the driver's library."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest
import uvloop
from fakes.nvml import GIB, FakeNvml
from studio.v1.event_pb2 import Event
from studio_agent.gpu.health import HEALTHY, QUARANTINED, GpuHealth
from studio_agent.gpu.respawn import Patience
from studio_agent.gpu.sampler import GpuSampler, SamplerState
from studio_runtime.errors import NotFoundError, UnavailableError
from studio_runtime.process import ProcessIdentity

INTERVAL_SECONDS = 0.1
IMPATIENT = Patience(hang_seconds=1.0, first_delay_seconds=0.05, longest_delay_seconds=0.2, starts_per_hour=50)
WAIT_SECONDS = 30


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while not condition():
            await asyncio.sleep(0.02)


async def until_event(sampler: GpuSampler, kind: str) -> Event:
    found: list[Event] = []

    def seen() -> bool:
        found.extend(event for event in sampler.events() if event.kind == kind)
        return bool(found)

    await until(seen)
    return found[0]


@contextlib.asynccontextmanager
async def sampling(nvml: FakeNvml, **options: object) -> AsyncIterator[GpuSampler]:
    """A sampler that has its first frame."""
    given = {"patience": IMPATIENT, "environment": os.environ | nvml.env()} | options
    async with GpuSampler(INTERVAL_SECONDS, **given) as sampler:
        await until(lambda: sampler.state is SamplerState.RUNNING)
        yield sampler


def child_pid() -> int:
    """The sampler's child of this process that was started last."""
    return max(children_of_this_process())


def children_of_this_process() -> Iterable[int]:
    for task in Path("/proc/self/task").iterdir():
        for pid in map(int, (task / "children").read_text().split()):
            if b"studio_agent.gpu.child" in Path(f"/proc/{pid}/cmdline").read_bytes():
                yield pid


@pytest.fixture
def nvml(tmp_path: Path) -> Iterable[FakeNvml]:
    with FakeNvml(tmp_path) as nvml:
        yield nvml


async def test_every_value_arrives_in_the_contracts_units(nvml: FakeNvml):
    nvml.add_gpu(
        utilization=73,
        power=250_500,
        energy=123_456_789_012,
        temperature=66,
        clock_reasons=0x4 | 0x40,
        ecc_uncorrected=2,
        remapped="1,2,0,0",
        processes=f"{os.getpid()}:{3 * GIB},999999:unset",
        nvlink="1",
        field_197=1_000,
        field_138=4,
    )
    nvml.add_gpu(nvlink="0")
    async with sampling(nvml, owner_of=lambda pid: "chat-1" if pid == os.getpid() else "") as sampler:
        gpu, other = sampler.gpus()
        figures = sampler.figures()[gpu.uuid]
        assert sampler.driver_version == "580.95.05"
    assert (gpu.model, gpu.memory_bytes, gpu.compute_capability) == ("Stand-in 24G", 24 * GIB, "8.9")
    assert (gpu.pci_bus_id, gpu.numa_node, list(gpu.nvlink_peers)) == ("00007FFF:01:00.0", -1, [other.uuid])
    assert (figures.utilization_share, figures.power_watts, figures.power_limit_watts) == (0.73, 250.5, 300)
    assert (figures.memory_used_bytes, figures.memory_reserved_bytes) == (GIB, GIB // 4)
    assert (figures.energy_millijoules, figures.temperature_celsius) == (123_456_789_012, 66)
    assert (figures.sm_clock_mhz, figures.memory_clock_mhz) == (1400, 7000)
    assert list(figures.clock_event_reasons) == ["software_power_cap", "hardware_thermal_slowdown"]
    assert (figures.ecc_uncorrected, figures.remapped_rows, figures.stale) == (2, 3, False)
    ours, stranger = figures.processes
    assert (ours.pid, ours.memory_used_bytes, ours.replica_id) == (os.getpid(), 3 * GIB, "chat-1")
    assert ours.command
    assert ours.user
    assert (stranger.pid, stranger.HasField("memory_used_bytes"), stranger.replica_id) == (999999, False, "")
    assert (figures.pcie_sent_bytes, figures.nvlink_sent_bytes) == (1_000, 4096)
    assert not figures.HasField("pcie_received_bytes")


async def test_values_that_the_driver_does_not_give_are_absent_and_never_zero(nvml: FakeNvml):
    absent = "utilization", "power", "power.limit", "energy", "clock.sm", "ecc.uncorrected", "remapped", "field.230"
    nvml.add_gpu(temperature="unset", **dict.fromkeys((key.replace(".", "_") for key in absent), "na"))
    async with sampling(nvml) as sampler:
        (gpu,) = sampler.gpus()
        figures = sampler.figures()[gpu.uuid]
    set_fields = {field.name for field, _ in figures.ListFields()}
    assert set_fields == {"at", "memory_used_bytes", "memory_reserved_bytes", "memory_clock_mhz"}
    assert gpu.health == HEALTHY


async def test_an_old_driver_without_the_newer_functions_is_read_by_the_older_ones(tmp_path: Path):
    newer = [
        "nvmlDeviceGetMemoryInfo_v2",
        "nvmlDeviceGetTemperatureV",
        "nvmlDeviceGetCurrentClocksEventReasons",
        "nvmlDeviceGetFieldValues",
        "nvmlDeviceGetComputeRunningProcesses_v3",
        "nvmlEventSetCreate",
        "nvmlDeviceGetMigMode",
        "nvmlDeviceGetP2PStatus",
    ]
    with FakeNvml(tmp_path, missing=newer) as nvml:
        nvml.add_gpu(clock_reasons=0x1)
        nvml.add_gpu()
        async with sampling(nvml) as sampler:
            gpu, _ = sampler.gpus()
            figures = sampler.figures()[gpu.uuid]
    # The first version of the memory call counts reserved memory as used.
    assert (gpu.memory_bytes, figures.memory_used_bytes) == (24 * GIB, GIB + GIB // 4)
    assert not figures.HasField("memory_reserved_bytes")
    assert (figures.temperature_celsius, list(figures.clock_event_reasons)) == (40, ["idle"])
    assert gpu.health == HEALTHY


async def test_a_gpu_without_memory_of_its_own_shows_the_hosts(nvml: FakeNvml):
    nvml.add_gpu(memory_total="na")
    async with sampling(nvml) as sampler:
        (gpu,) = sampler.gpus()
        figures = sampler.figures()[gpu.uuid]
    assert gpu.memory_bytes == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < figures.memory_used_bytes < gpu.memory_bytes


async def test_a_host_without_the_library_is_absent_and_no_child_stays(tmp_path: Path):
    woken = asyncio.Event()
    environment = os.environ | {"LD_LIBRARY_PATH": str(tmp_path)}
    async with GpuSampler(INTERVAL_SECONDS, environment=environment, wake=woken.set) as sampler:
        assert sampler.state is SamplerState.STARTING
        await until(lambda: sampler.state is SamplerState.ABSENT)
        await asyncio.wait_for(woken.wait(), WAIT_SECONDS)
        assert (sampler.gpus(), sampler.figures(), sampler.events()) == ([], {}, [])
        assert "NVML" in sampler.reason
        await until(lambda: not list(children_of_this_process()))


async def test_a_driver_that_is_loaded_later_is_found(nvml: FakeNvml):
    nvml.add_gpu()
    nvml.set("error.nvmlInitWithFlags", 9)
    environment = os.environ | nvml.env()
    async with GpuSampler(INTERVAL_SECONDS, patience=IMPATIENT, environment=environment) as sampler:
        await until(lambda: sampler.state is SamplerState.ABSENT)
        nvml.unset("error.nvmlInitWithFlags")
        await until(lambda: sampler.state is SamplerState.RUNNING)
        assert len(sampler.gpus()) == 1
        assert sampler.reason == ""


async def test_a_host_with_a_driver_and_no_gpu_runs_with_none(nvml: FakeNvml):
    async with sampling(nvml) as sampler:
        assert sampler.gpus() == []


async def test_figures_follow_the_uuid_when_a_new_child_finds_other_indexes(nvml: FakeNvml):
    hot, cold = nvml.add_gpu(temperature=80), nvml.add_gpu(temperature=30)
    async with sampling(nvml) as sampler:
        assert [gpu.uuid for gpu in sampler.gpus()] == [hot, cold]
        nvml.set("order", "1,0")
        os.kill(child_pid(), signal.SIGKILL)
        await until(lambda: [gpu.uuid for gpu in sampler.gpus()] == [cold, hot])
        figures = sampler.figures()
        assert (figures[hot].temperature_celsius, figures[cold].temperature_celsius) == (80, 30)
        assert all(gpu.health == HEALTHY for gpu in sampler.gpus())


async def test_a_hanging_call_makes_figures_stale_and_leaves_the_loop_alone(nvml: FakeNvml):
    nvml.add_gpu()
    async with sampling(nvml, patience=replace(IMPATIENT, start_seconds=3.0)) as sampler:
        hanging = ProcessIdentity.of(child_pid())
        assert hanging is not None
        nvml.hang("nvmlDeviceGetUtilizationRates")
        await until(lambda: sampler.state is SamplerState.STALE)
        (figures,) = sampler.figures().values()
        assert figures.stale
        assert figures.power_watts == 50
        event = await until_event(sampler, "gpu.sampler_hung")
        assert "has not returned" in event.message
        # One more child is tried, and no third while both hang; none of them is killed.
        await until(lambda: len(sampler._left_behind) == 2)
        assert hanging.is_running()
        assert len(sampler.gpus()) == 1
        nvml.unset("hang.nvmlDeviceGetUtilizationRates")
        await until(lambda: sampler.state is SamplerState.RUNNING)
        await until(lambda: not hanging.is_running())
        assert not any(figures.stale for figures in sampler.figures().values())


async def test_a_quarantine_stays_while_nothing_new_can_be_read(nvml: FakeNvml):
    gpu = nvml.add_gpu()
    kept = {gpu: GpuHealth(QUARANTINED, "XID 79", kept=True)}
    async with GpuSampler(environment=os.environ | nvml.env(), known_health=kept) as starting:
        with pytest.raises(UnavailableError):
            starting.recheck(gpu)
        assert starting.quarantined() == {gpu: "XID 79"}
    async with sampling(nvml, known_health=kept) as sampler:
        nvml.hang("nvmlDeviceGetUtilizationRates")
        await until(lambda: sampler.state is SamplerState.STALE)
        with pytest.raises(UnavailableError, match="does not answer"):
            sampler.recheck(gpu)
        assert sampler.quarantined() == {gpu: "XID 79"}
        nvml.unset("hang.nvmlDeviceGetUtilizationRates")
        await until(lambda: sampler.state is SamplerState.RUNNING)
        assert sampler.recheck(gpu).health == HEALTHY


async def test_the_agent_can_stop_while_a_call_hangs(nvml: FakeNvml):
    nvml.add_gpu()
    async with sampling(nvml) as sampler:
        child = ProcessIdentity.of(child_pid())
        assert child is not None
        nvml.hang("nvmlDeviceGetPowerUsage")
        await until(lambda: sampler.state is SamplerState.STALE)
    assert child.is_running()
    nvml.unset("hang.nvmlDeviceGetPowerUsage")
    await until(lambda: not child.is_running())


async def test_one_lost_gpu_leaves_the_others_alone_and_stays_quarantined(nvml: FakeNvml):
    lost, other = nvml.add_gpu(), nvml.add_gpu()
    async with sampling(nvml) as sampler:
        nvml.set_all({"gpu.0.lost": 1, "gpu.1.temperature": 55})
        event = await until_event(sampler, "gpu.quarantined")
        assert event.attributes["gpu"] == lost
        await until(lambda: sampler.figures()[other].temperature_celsius == 55)
        assert [gpu.health for gpu in sampler.gpus()] == [QUARANTINED, HEALTHY]
        assert sampler.figures()[lost].stale
        nvml.unset("gpu.0.lost")
        await until(lambda: not sampler.figures()[lost].stale)
        assert sampler.gpus()[0].health == QUARANTINED
        assert sampler.recheck(lost).health == HEALTHY
        assert sampler.gpus()[0].health == HEALTHY
        with pytest.raises(NotFoundError):
            sampler.recheck("GPU-unknown")


async def test_a_gpu_that_disappears_from_the_list_is_quarantined(nvml: FakeNvml):
    nvml.add_gpu()
    gone = nvml.add_gpu()
    async with sampling(nvml) as sampler:
        nvml.set("count", 1)
        event = await until_event(sampler, "gpu.quarantined")
        assert event.attributes["gpu"] == gone
        assert len(sampler.gpus()) == 2


async def test_an_xid_reaches_the_agent_with_the_recovery_action_that_came_with_it(nvml: FakeNvml):
    nvml.add_gpu()
    second = nvml.add_gpu()
    async with sampling(nvml) as sampler:
        nvml.raise_xid(1, 31)
        assert (await until_event(sampler, "gpu.xid")).reason == "tenant"
        assert sampler.gpus()[1].health == HEALTHY
        nvml.set("gpu.1.field.230", 1)
        nvml.raise_xid(1, 154)
        event = await until_event(sampler, "gpu.quarantined")
        assert event.attributes["gpu"] == second
        assert "has to be reset" in event.message
        kept = sampler.health()
    nvml.set("gpu.1.field.230", 0)
    async with sampling(nvml, known_health=kept) as sampler:
        assert sampler.gpus()[1].health == QUARANTINED
        assert kept[second] == GpuHealth(QUARANTINED, sampler.gpus()[1].health_reason, kept=True)


def test_a_killed_child_is_replaced_on_the_loop_that_the_agent_runs_on(nvml: FakeNvml):
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(a_killed_child_is_replaced(nvml))


async def test_a_killed_child_is_replaced(nvml: FakeNvml):
    await a_killed_child_is_replaced(nvml)


async def a_killed_child_is_replaced(nvml: FakeNvml) -> None:
    nvml.add_gpu()
    async with sampling(nvml) as sampler:
        first = child_pid()
        os.kill(first, signal.SIGKILL)
        await until_event(sampler, "gpu.sampler_failed")
        await until(lambda: sampler.state is SamplerState.RUNNING and first not in children_of_this_process())
        nvml.set("gpu.0.temperature", 77)
        await until(lambda: [each.temperature_celsius for each in sampler.figures().values()] == [77])


async def test_work_goes_to_the_instances_of_a_partitioned_gpu(nvml: FakeNvml):
    whole = nvml.add_gpu(mig=1)
    instance = {"uuid": "MIG-1", "name": "Stand-in MIG 1g.5gb", "memory.total": 5 * GIB, "memory.used": 1}
    instance |= {"memory.reserved": 2, "processes": f"{os.getpid()}:7"}
    nvml.set_all({f"gpu.0.mig.2.{key}": value for key, value in instance.items()})
    async with sampling(nvml) as sampler:
        (gpu,) = sampler.gpus()
        figures = sampler.figures()
        assert (gpu.uuid, gpu.parent_uuid, gpu.memory_bytes) == ("MIG-1", whole, 5 * GIB)
        assert (figures["MIG-1"].memory_used_bytes, len(figures["MIG-1"].processes)) == (1, 1)
        assert not figures["MIG-1"].HasField("power_watts")
        assert figures[whole].power_watts == 50
        nvml.set("gpu.0.lost", 1)
        await until_event(sampler, "gpu.quarantined")
        await until(lambda: sampler.figures()["MIG-1"].stale)
        assert [(gpu.uuid, gpu.health) for gpu in sampler.gpus()] == [("MIG-1", QUARANTINED)]
        nvml.unset("gpu.0.lost")
        nvml.unset("gpu.0.mig.2.uuid")
        await until(lambda: sampler.gpus() == [])


async def test_the_callers_own_error_passes_the_sampler_unchanged(nvml: FakeNvml):
    with pytest.raises(LookupError, match="the caller's"):
        async with sampling(nvml):
            raise LookupError("the caller's")


async def test_the_child_ends_with_an_agent_that_is_killed(nvml: FakeNvml):
    nvml.add_gpu()
    program = """
import asyncio, os
from studio_agent.gpu.childprocess import ChildProcess
async def main():
    child = await ChildProcess.start(0.1, os.environ)
    await child.read_frame()
    print(child.pid, flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""
    agent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE, env=os.environ | nvml.env()
    )
    assert agent.stdout is not None
    child = ProcessIdentity.of(int(await agent.stdout.readline()))
    assert child is not None
    agent.kill()
    await agent.wait()
    await until(lambda: not child.is_running())
