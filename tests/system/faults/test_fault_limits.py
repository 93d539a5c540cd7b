"""Faults 8 and 9: the agent's own process comes to a limit; engines do not."""

import os
import resource
import signal
from pathlib import Path

import pytest
from fakes.agent_process import AgentProcess, a_demo_replica
from fakes.coordinator import FakeCoordinator
from studio.v1.agent_service_pb2 import AssignmentNack, ConnectResponse
from studio.v1.replica_pb2 import Replica
from studio_agent.launch import EngineCgroups

# Of those below it none is free: they are standard input, output and errors.
NO_MORE_DESCRIPTORS = 3


async def test_without_descriptors_the_agent_says_so_keeps_its_lease_and_recovers(
    agent: AgentProcess, coordinator: FakeCoordinator
) -> None:
    coordinator.assign(a_demo_replica())
    first = await coordinator.until_state("demo-1", Replica.STATE_READY)
    before = resource.prlimit(agent.pid, resource.RLIMIT_NOFILE)
    # What it holds it keeps; it gets nothing more.
    resource.prlimit(agent.pid, resource.RLIMIT_NOFILE, (NO_MORE_DESCRIPTORS, before[1]))
    generation = coordinator.assign(a_demo_replica(), a_demo_replica("other-1"))
    answer = await coordinator.until(
        lambda: coordinator.answers[-1].generation == generation and coordinator.answers[-1]
    )
    assert isinstance(answer, AssignmentNack)
    assert answer.retryable
    assert "Too many open files" in answer.reason
    heard = len(coordinator.heartbeats)
    await coordinator.until(lambda: len(coordinator.heartbeats) >= heard + 3)
    assert len(coordinator.hellos) == 1, "the session outlasts it"
    assert agent.engine_processes() == [first.pid]

    resource.prlimit(agent.pid, resource.RLIMIT_NOFILE, before)
    coordinator.send(ConnectResponse(assignment=coordinator.assignment))
    await coordinator.until_state("other-1", Replica.STATE_READY)
    assert (coordinator.observed["demo-1"].pid, coordinator.observed["demo-1"].restarts) == (first.pid, 0)


async def test_an_engine_that_dies_while_there_are_no_descriptors_comes_back_when_there_are(
    agent: AgentProcess, coordinator: FakeCoordinator
) -> None:
    coordinator.assign(a_demo_replica())
    first = await coordinator.until_state("demo-1", Replica.STATE_READY)
    before = resource.prlimit(agent.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(agent.pid, resource.RLIMIT_NOFILE, (NO_MORE_DESCRIPTORS, before[1]))
    os.kill(first.pid, signal.SIGKILL)
    failed = await coordinator.until_replica("demo-1", lambda seen: seen.state == Replica.STATE_FAILED)
    assert failed.HasField("failure")
    resource.prlimit(agent.pid, resource.RLIMIT_NOFILE, before)
    again = await coordinator.until_replica("demo-1", lambda seen: seen.state == Replica.STATE_READY)
    assert agent.engine_processes() == [again.pid]


def cgroup_of(pid: int) -> str:
    """Its folder in the version 2 hierarchy, whose limits hold for everything in it."""
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    return next((line.removeprefix("0::") for line in lines if line.startswith("0::")), "")


async def test_a_limit_on_the_agents_memory_is_none_on_its_engines(
    agent: AgentProcess, coordinator: FakeCoordinator
) -> None:
    """The kernel's killer takes what is in the group that is over its limit."""
    if EngineCgroups.prepare("test").root is None:
        pytest.skip("this host has no cgroup version 2 that the test may write")
    coordinator.assign(a_demo_replica())
    ready = await coordinator.until_state("demo-1", Replica.STATE_READY)
    engines, own = cgroup_of(ready.pid), cgroup_of(agent.pid)
    assert "demo-1" in engines
    assert not engines.startswith(own.rstrip("/") + "/") or own == "/"
    assert engines != own
