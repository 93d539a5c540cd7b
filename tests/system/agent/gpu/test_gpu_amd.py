"""AMD's GPUs: the sampler with its real child and a stand-in for AMD's binding."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from fakes.agent_process import AgentProcess, a_demo_replica
from fakes.amd import GIB, GPU, FakeAmd
from fakes.coordinator import FakeCoordinator
from fakes.nvml import FakeNvml
from studio.v1.replica_pb2 import Replica
from studio_agent.gpu.health import HEALTHY, QUARANTINED
from studio_agent.gpu.respawn import Patience
from studio_agent.gpu.sampler import GpuSampler, SamplerState

INTERVAL_SECONDS = 0.1
IMPATIENT = Patience(hang_seconds=5.0, first_delay_seconds=0.05, longest_delay_seconds=0.2, starts_per_hour=50)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def sampling(environment: dict[str, str]) -> AsyncIterator[GpuSampler]:
    async with GpuSampler(INTERVAL_SECONDS, patience=IMPATIENT, environment=os.environ | environment) as sampler:
        await until(lambda: sampler.state is not SamplerState.STARTING)
        yield sampler


async def test_every_value_arrives_in_the_contracts_units(tmp_path: Path):
    amd = FakeAmd(tmp_path)
    memory = {"gtt_mem": 1, "cpu_mem": 2, "vram_mem": 3 * GIB}
    hidden = {"pid": 999999, "memory_usage": {"vram_mem": 2**64 - 1}}
    uuid = amd.add_gpu(amdsmi_get_gpu_process_list=[{"pid": os.getpid(), "mem": 7, "memory_usage": memory}, hidden])
    async with sampling(amd.env()) as sampler:
        (gpu,) = sampler.gpus()
        figures = sampler.figures()[uuid]
        assert (sampler.vendor, sampler.driver_version) == ("amd", "amdgpu 6.14.14")
    assert (gpu.uuid, gpu.model, gpu.memory_bytes) == (uuid, "Stand-in 64G", 64 * GIB)
    assert (gpu.pci_bus_id, gpu.numa_node, gpu.compute_capability) == ("7fff:01:00.0", -1, "")
    assert (gpu.health, gpu.health_reason) == (HEALTHY, "")
    assert (figures.utilization_share, figures.memory_used_bytes) == (0.73, GIB)
    assert (figures.power_watts, figures.power_limit_watts, figures.energy_millijoules) == (250, 560, 31_000)
    assert (figures.temperature_celsius, figures.sm_clock_mhz, figures.memory_clock_mhz) == (41, 1700, 1600)
    assert (figures.ecc_uncorrected, figures.stale) == (2, False)
    ours, other = figures.processes
    assert (ours.pid, ours.memory_used_bytes, bool(ours.command)) == (os.getpid(), 3 * GIB, True)
    assert (other.pid, other.HasField("memory_used_bytes")) == (999999, False)


async def test_values_that_the_library_does_not_give_are_absent_and_never_zero(tmp_path: Path):
    amd = FakeAmd(tmp_path, missing=["amdsmi_get_energy_count"])
    kept = {"amdsmi_get_gpu_asic_info", "amdsmi_get_energy_count", "amdsmi_get_clock_info MEM"}
    marked = {
        "amdsmi_get_gpu_activity": {"gfx_activity": "N/A"},
        "amdsmi_get_power_info": {"current_socket_power": "N/A", "average_socket_power": 0xFFFFFFFF},
    }
    uuid = amd.add_gpu(**dict.fromkeys(GPU.keys() - kept) | marked)
    async with sampling(amd.env()) as sampler:
        figures = sampler.figures()[uuid]
        assert sampler.driver_version == ""
    assert {field.name for field, _ in figures.ListFields()} == {"at", "memory_clock_mhz"}


async def test_what_some_gpus_have_in_another_place_is_found_there(tmp_path: Path):
    amd = FakeAmd(tmp_path)
    average = {"current_socket_power": "N/A", "average_socket_power": 180}
    averaging = amd.add_gpu(amdsmi_get_power_info=average)
    without_edge = amd.add_gpu(**{"amdsmi_get_temp_metric EDGE": None})
    async with sampling(amd.env()) as sampler:
        figures = sampler.figures()
        assert figures[averaging].power_watts == 180
        assert figures[without_edge].temperature_celsius == 55


async def test_a_gpu_that_hip_cannot_be_told_apart_is_not_listed(tmp_path: Path):
    amd = FakeAmd(tmp_path)
    amd.add_gpu(amdsmi_get_gpu_enumeration_info={"hip_uuid": "GPU-XX"})
    known = amd.add_gpu()
    async with sampling(amd.env()) as sampler:
        assert [gpu.uuid for gpu in sampler.gpus()] == [known]


async def test_figures_move_and_a_gpu_that_is_no_longer_listed_is_quarantined(tmp_path: Path):
    amd = FakeAmd(tmp_path)
    stays, goes = amd.add_gpu(), amd.add_gpu()
    async with sampling(amd.env()) as sampler:
        amd.set(0, **{"amdsmi_get_temp_metric EDGE": 88})
        await until(lambda: sampler.figures()[stays].temperature_celsius == 88)
        amd.remove_last()
        await until(lambda: goes in sampler.quarantined())
        assert {gpu.uuid: gpu.health for gpu in sampler.gpus()} == {stays: HEALTHY, goes: QUARANTINED}


async def test_a_driver_that_is_loaded_later_is_found(tmp_path: Path):
    amd = FakeAmd(tmp_path, init=34)
    amd.add_gpu()
    async with sampling(amd.env()) as sampler:
        assert sampler.state is SamplerState.ABSENT
        assert "AMD SMI cannot be used: Error code: 34" in sampler.reason
        amd.change(init=0)
        await until(lambda: sampler.state is SamplerState.RUNNING)
        assert len(sampler.gpus()) == 1


async def test_a_binding_without_its_library_is_said_and_no_more_than_that(tmp_path: Path):
    async with sampling(FakeAmd(tmp_path, library="missing").env()) as sampler:
        assert sampler.state is SamplerState.ABSENT
        assert "amdsmi is installed and cannot load its library" in sampler.reason


async def test_nvidias_gpus_come_first_where_both_libraries_are(tmp_path: Path):
    amd = FakeAmd(tmp_path)
    amd.add_gpu()
    folder = tmp_path / "nvml"
    folder.mkdir()
    with FakeNvml(folder) as nvml:
        uuid = nvml.add_gpu()
        async with sampling(amd.env() | nvml.env()) as sampler:
            assert (sampler.vendor, [gpu.uuid for gpu in sampler.gpus()]) == ("nvidia", [uuid])


async def test_an_engine_is_told_its_gpus_in_amds_words(tmp_path: Path, coordinator: FakeCoordinator):
    amd = FakeAmd(tmp_path)
    amd.add_gpu()
    uuid = amd.add_gpu()
    async with AgentProcess(tmp_path, coordinator.address, environment=amd.env()):
        await coordinator.until(lambda: coordinator.hellos)
        assert coordinator.hellos[0].facts.gpu_driver == "amdgpu 6.14.14"
        replica = a_demo_replica()
        replica.gpu_uuids.append(uuid)
        coordinator.assign(replica)
        ready = await coordinator.until_state("demo-1", Replica.STATE_READY)
        environment = environment_of(ready.pid)
    assert environment["HIP_VISIBLE_DEVICES"] == uuid
    assert "CUDA_VISIBLE_DEVICES" not in environment


def environment_of(pid: int) -> dict[str, str]:
    """What the process was started with."""
    variables = Path(f"/proc/{pid}/environ").read_text(encoding="utf-8").rstrip("\0").split("\0")
    return {name: value for name, _, value in (variable.partition("=") for variable in variables)}
