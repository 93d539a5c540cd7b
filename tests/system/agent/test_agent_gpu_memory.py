"""GPU memory after an engine's end, and GPUs that are to be trusted no more; read from a stand-in for NVIDIA's library."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from fakes.agent_in_process import AgentInProcess, supervising
from fakes.agent_records import an_assignment, assigned
from fakes.nvml import GIB, FakeNvml
from studio.v1.host_pb2 import Gpu
from studio_agent.gpu.sampler import GpuSampler, SamplerState
from studio_agent.gpu_watch import watch_gpus
from studio_agent.latest import Latest
from studio_agent.launch import EngineCgroups, ProcessLauncher
from studio_agent.launch.owner import replica_of
from studio_agent.plan.record import State
from studio_agent.probe import Prober
from studio_agent.settings import StopLimits

# The stand-in's GPU is read this often.
TICK_SECONDS = 0.1


@pytest.fixture
def nvml(tmp_path: Path) -> Iterator[FakeNvml]:
    folder = tmp_path / "nvml"
    folder.mkdir()
    with FakeNvml(folder) as fake:
        yield fake


@asynccontextmanager
async def an_agent(folder: Path, nvml: FakeNvml, memory_seconds: float) -> AsyncIterator[AgentInProcess]:
    host_id, news = os.urandom(8).hex(), Latest(None)
    sampling = GpuSampler(
        TICK_SECONDS,
        owner_of=lambda pid: replica_of(pid, host_id),
        wake=lambda: news.set(None),
        environment=os.environ | nvml.env(),
    )
    limits = StopLimits(memory_seconds=memory_seconds, kill_again_seconds=0.2)
    async with Prober() as prober, sampling as sampler:
        launcher = ProcessLauncher(host_id, EngineCgroups(None))
        agent = AgentInProcess(folder, prober, launcher, limits, gpus=sampler)
        equipment = agent.equipment
        watching = asyncio.ensure_future(
            watch_gpus(
                *(sampler, news, equipment.changes, equipment.events),
                equipment.settings.state.gpu_health,
                agent.supervisor.hear,
            )
        )
        while not sampler.figures():
            await news.newer_than(news.version)
        try:
            async with supervising(agent):
                yield agent
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)


def health_of(agent: AgentInProcess, uuid: str) -> str:
    return agent.equipment.gpus.quarantined().get(uuid, "")


async def test_a_stop_waits_until_the_memory_is_back(tmp_path: Path, nvml: FakeNvml) -> None:
    gpu = nvml.add_gpu()
    async with an_agent(tmp_path, nvml, memory_seconds=60) as agent:
        await agent.supervisor.offer(an_assignment(assigned("demo-1", 1, gpu)))
        ready = await agent.until_state("demo-1", State.STATE_READY)
        assert ready.engine is not None
        assert ready.engine.gpu_unowned_bytes == {gpu: GIB}
        nvml.set("gpu.0.memory.used", 21 * GIB)

        await agent.supervisor.offer(an_assignment(generation=2))
        await agent.until_state("demo-1", State.STATE_STOPPING)
        async with asyncio.timeout(20):
            while await agent.equipment.launcher.members(ready.engine):
                await asyncio.sleep(0.02)
        passes = agent.supervisor.pulse.value.passes
        await agent.supervisor.pulse.newer_than(agent.supervisor.pulse.version + 1)
        assert agent.supervisor.pulse.value.passes > passes
        assert agent.ledger.records["demo-1"].state == State.STATE_STOPPING

        nvml.set("gpu.0.memory.used", GIB)
        await agent.until_event("replica.stopped")
        assert not health_of(agent, gpu)


async def test_memory_that_stays_makes_a_stuck_replica_and_a_quarantined_gpu(tmp_path: Path, nvml: FakeNvml) -> None:
    gpu = nvml.add_gpu()
    async with an_agent(tmp_path, nvml, memory_seconds=3.0) as agent:
        await agent.supervisor.offer(an_assignment(assigned("old-1", 1, gpu)))
        await agent.until_state("old-1", State.STATE_READY)
        nvml.set("gpu.0.memory.used", 21 * GIB)
        await agent.supervisor.offer(an_assignment(assigned("new-1", 1, gpu), generation=2))
        held = await agent.until_event("replica.memory_held")
        assert "20.0 GiB" in held.message
        stuck = agent.ledger.records["old-1"]
        assert stuck.state == State.STATE_STOPPING
        assert stuck.reason.startswith("stuck: ")
        await agent.until(lambda: health_of(agent, gpu))
        assert "held by nobody" in health_of(agent, gpu)
        assert agent.ledger.records["new-1"].state == State.STATE_PENDING

        nvml.set("gpu.0.memory.used", GIB)
        await agent.until_event("replica.stopped")
        # The memory is back, but an operator has to look at the GPU first.
        waiting = await agent.until(
            lambda: (r := agent.ledger.records["new-1"]).reason.startswith(f"GPU {gpu} is quarantined") and r
        )
        assert waiting.state == State.STATE_PENDING
        # A check needs fresh figures, which a busy machine may owe for a moment.
        await agent.until(lambda: agent.equipment.gpus.state is SamplerState.RUNNING)
        agent.equipment.gpus.recheck(gpu)
        await agent.until_state("new-1", State.STATE_READY)


async def test_a_restart_waits_for_the_memory_too(tmp_path: Path, nvml: FakeNvml) -> None:
    gpu = nvml.add_gpu()
    async with an_agent(tmp_path, nvml, memory_seconds=60) as agent:
        await agent.supervisor.offer(an_assignment(assigned("demo-1", 1, gpu)))
        first = await agent.until_state("demo-1", State.STATE_READY)
        assert first.engine is not None
        nvml.set("gpu.0.memory.used", 21 * GIB)
        os.kill(first.engine.pid, signal.SIGKILL)
        failed = await agent.until_state("demo-1", State.STATE_FAILED)
        assert failed.retry_at is not None
        await agent.until(lambda: agent.equipment.now() > failed.retry_at + 0.5)
        assert agent.ledger.records["demo-1"].state == State.STATE_FAILED
        nvml.set("gpu.0.memory.used", GIB)
        again = await agent.until_state("demo-1", State.STATE_READY)
        assert again.restart_count == 1


async def test_a_strangers_memory_holds_nothing_up(tmp_path: Path, nvml: FakeNvml) -> None:
    gpu = nvml.add_gpu()
    async with an_agent(tmp_path, nvml, memory_seconds=60) as agent:
        await agent.supervisor.offer(an_assignment(assigned("demo-1", 1, gpu)))
        await agent.until_state("demo-1", State.STATE_READY)
        # This very process is no engine's.
        nvml.set_all({"gpu.0.memory.used": 21 * GIB, "gpu.0.processes": f"{os.getpid()}:{20 * GIB}"})
        await agent.supervisor.offer(an_assignment(generation=2))
        await agent.until_event("replica.stopped")
        assert not health_of(agent, gpu)


async def test_an_xid_of_the_device_is_the_cause_and_three_replicas_condemn_the_gpu(
    tmp_path: Path, nvml: FakeNvml
) -> None:
    gpu = nvml.add_gpu()
    # Contained: the GPU is degraded, and what fails on it counts.
    contained = 94
    async with an_agent(tmp_path, nvml, memory_seconds=60) as agent:
        names = ["a-1", "b-1", "c-1"]
        await agent.supervisor.offer(an_assignment(*(assigned(name, 1, gpu, share=0.3) for name in names)))
        for name in names:
            await agent.until_state(name, State.STATE_READY)
        nvml.raise_xid(0, contained)
        await agent.until_event("gpu.xid")
        for name in names:
            record = agent.ledger.records[name]
            assert record.engine is not None
            os.kill(record.engine.pid, signal.SIGKILL)
        await agent.until(lambda: "failed on it for GPU causes: a-1, b-1, c-1" in health_of(agent, gpu))
        for name in names:
            failure = agent.ledger.records[name].failure
            assert failure is not None
            assert failure.reason == "gpu_fault"
            assert f"XID {contained}" in failure.message
        assert Gpu.HEALTH_QUARANTINED in [each.health for each in agent.equipment.gpus.gpus()]


async def test_an_xid_that_is_told_of_later_explains_the_failure_all_the_same(tmp_path: Path, nvml: FakeNvml) -> None:
    gpu = nvml.add_gpu()
    async with an_agent(tmp_path, nvml, memory_seconds=60) as agent:
        await agent.supervisor.offer(an_assignment(assigned("demo-1", 1, gpu)))
        record = await agent.until_state("demo-1", State.STATE_READY)
        assert record.engine is not None
        os.kill(record.engine.pid, signal.SIGKILL)
        await agent.until_state("demo-1", State.STATE_FAILED)
        nvml.raise_xid(0, 79)
        explained = await agent.until_event("replica.failure_explained")
        assert explained.reason == "gpu_fault"
        # XID 79 quarantines the GPU by itself: no restart there.
        await agent.until(lambda: health_of(agent, gpu))
