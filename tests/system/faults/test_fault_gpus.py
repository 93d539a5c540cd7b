"""Faults 17, 18 and 20, with the real agent: GPUs that others use, that hang, and that change places."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.agent_process import AgentProcess, a_demo_replica
from fakes.coordinator import FakeCoordinator
from fakes.nvml import GIB, FakeNvml
from studio.v1.assignment_pb2 import AssignedReplica
from studio.v1.replica_pb2 import Replica


@pytest.fixture
def nvml(tmp_path: Path) -> Iterator[FakeNvml]:
    folder = tmp_path / "nvml"
    folder.mkdir()
    with FakeNvml(folder) as stand_in:
        yield stand_in


def a_replica_on(uuid: str, replica_id: str = "demo-1") -> AssignedReplica:
    replica = a_demo_replica(replica_id)
    replica.gpu_uuids.append(uuid)
    return replica


def environment_of(pid: int) -> dict[str, str]:
    pairs = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return dict(pair.split("=", 1) for pair in pairs if "=" in pair)


async def test_memory_that_a_stranger_holds_is_seen_with_its_owner(
    tmp_path: Path, coordinator: FakeCoordinator, nvml: FakeNvml
) -> None:
    uuid = nvml.add_gpu(memory_used=18 * GIB, processes=f"{os.getpid()}:{18 * GIB}")
    async with AgentProcess(tmp_path, coordinator.address, environment=nvml.env()):
        sample = await coordinator.until(
            lambda: coordinator.telemetry and (found := coordinator.telemetry[-1].gpus[uuid].processes) and found[0]
        )
        assert (sample.pid, sample.replica_id) == (os.getpid(), "")
        assert sample.memory_used_bytes == 18 * GIB


async def test_a_driver_that_hangs_stops_neither_heartbeats_nor_starts(
    tmp_path: Path, coordinator: FakeCoordinator, nvml: FakeNvml
) -> None:
    uuid = nvml.add_gpu()
    async with AgentProcess(tmp_path, coordinator.address, environment=nvml.env()):
        await coordinator.until(
            lambda: coordinator.telemetry and coordinator.telemetry[-1].gpus[uuid].temperature_celsius
        )
        nvml.hang("nvmlDeviceGetUtilizationRates")
        await coordinator.until(lambda: coordinator.telemetry[-1].gpus[uuid].stale)
        heard = len(coordinator.heartbeats)
        coordinator.assign(a_replica_on(uuid))
        await coordinator.until_state("demo-1", Replica.STATE_READY)
        await coordinator.until(lambda: len(coordinator.heartbeats) >= heard + 3)
        assert len(coordinator.hellos) == 1


async def test_an_engine_keeps_its_gpu_when_the_indexes_change_with_the_agents_restart(
    tmp_path: Path, coordinator: FakeCoordinator, nvml: FakeNvml
) -> None:
    first, second = nvml.add_gpu(temperature=80), nvml.add_gpu(temperature=30)
    async with AgentProcess(tmp_path, coordinator.address, environment=nvml.env()) as agent:
        coordinator.assign(a_replica_on(second))
        ready = await coordinator.until_state("demo-1", Replica.STATE_READY)
        await agent.kill()
        nvml.set("order", "1,0")
        coordinator.observed.clear()
        coordinator.telemetry.clear()
        await agent.start()
        again = await coordinator.until_state("demo-1", Replica.STATE_READY)
        assert (again.pid, list(again.gpu_uuids)) == (ready.pid, [second])
        await coordinator.until(
            lambda: (
                coordinator.telemetry
                and coordinator.telemetry[-1].gpus[first].temperature_celsius == 80
                and coordinator.telemetry[-1].gpus[second].temperature_celsius == 30
            )
        )
        # A new engine is told by UUID as well.
        coordinator.assign(a_replica_on(second), a_replica_on(first, "other-1"))
        other = await coordinator.until_state("other-1", Replica.STATE_READY)
        assert environment_of(other.pid)["CUDA_VISIBLE_DEVICES"] == first
