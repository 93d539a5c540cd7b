"""The real agent with the demo engine and a fake coordinator: what an engine goes through."""

import os
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fakes.agent_process import AgentProcess, a_demo_replica
from fakes.coordinator import FakeCoordinator
from studio.v1.agent_service_pb2 import ReplicaObservation
from studio.v1.replica_pb2 import Replica
from studio_agent.launch.proc_scan import pids, token_of
from studio_runtime.process import ProcessIdentity


@pytest.fixture
async def coordinator() -> AsyncIterator[FakeCoordinator]:
    async with FakeCoordinator() as fake:
        yield fake


@pytest.fixture
async def agent(tmp_path: Path, coordinator: FakeCoordinator) -> AsyncIterator[AgentProcess]:
    async with AgentProcess(tmp_path, coordinator.address) as process:
        yield process


def engine_processes(agent: AgentProcess) -> list[int]:
    host_id = (agent.state / "host-id").read_text()
    return [pid for pid in pids() if token_of(pid, host_id)]


def port_of(replica: ReplicaObservation) -> int:
    return int(replica.base_url.rpartition(":")[2])


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def test_an_engine_starts_serves_and_stops_without_a_trace(agent: AgentProcess, coordinator: FakeCoordinator) -> None:
    coordinator.assign(a_demo_replica(load_seconds=0.2))
    ready = await coordinator.until_state("demo-1", Replica.STATE_READY)
    assert is_listening(port_of(ready))
    assert ready.pid in engine_processes(agent)

    coordinator.assign()
    await coordinator.until_gone("demo-1")
    assert not engine_processes(agent)
    assert not is_listening(port_of(ready))
    states = [state for _, state in coordinator.history]
    assert [s for s in states if s != "PENDING"][-1] == "STOPPED"
    assert "READY" in states
    await coordinator.until_event("replica.stopped")
    assert coordinator.kinds()[:4] == ["agent.started", "replica.starting", "replica.ready", "replica.stopped"]


async def test_a_killed_engine_is_a_failure_with_a_reason_and_is_restarted(
    agent: AgentProcess, coordinator: FakeCoordinator
) -> None:
    coordinator.assign(a_demo_replica())
    first = await coordinator.until_state("demo-1", Replica.STATE_READY)
    os.kill(first.pid, signal.SIGKILL)
    failed = await coordinator.until_event("replica.failed")
    assert failed.event.reason
    assert "restart 1 of 3 in 1 s" in failed.event.message
    second = await coordinator.until(lambda: (r := coordinator.observed["demo-1"]).state == Replica.STATE_READY and r)
    assert second.pid != first.pid
    assert second.restarts == 1
    assert ProcessIdentity.of(first.pid) is None
