"""Faults 1 and 4: the agent dies between any two steps, and afterwards there is exactly one engine."""

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fakes.agent_process import AgentProcess, a_demo_replica
from fakes.coordinator import FakeCoordinator
from studio.v1.replica_pb2 import Replica
from studio_runtime import failpoints
from studio_runtime.process import ProcessIdentity


def fail_at(agent: AgentProcess, point: str) -> None:
    agent.environment[failpoints.VARIABLE] = point


@pytest.fixture
async def agent(tmp_path: Path, coordinator: FakeCoordinator) -> AsyncIterator[AgentProcess]:
    """Not yet started: a test says first where it is to die."""
    process = AgentProcess(tmp_path, coordinator.address)
    try:
        yield process
    finally:
        await process.__aexit__()


async def next_agent(agent: AgentProcess, coordinator: FakeCoordinator) -> None:
    """Start the one that follows, once the first has died where it was told to."""
    assert await agent.ended() == failpoints.EXIT_CODE
    fail_at(agent, "")
    coordinator.observed.clear()
    await agent.start()


@pytest.mark.parametrize(
    "point",
    [
        "assignment_offered",
        "assignment_written",
        "note_written",
        "intent_written",
        "engine_started",
        "engine_ready",
    ],
)
async def test_a_crash_while_an_engine_is_started(
    agent: AgentProcess, coordinator: FakeCoordinator, point: str
) -> None:
    fail_at(agent, point)
    coordinator.assign(a_demo_replica())
    await agent.start()
    await next_agent(agent, coordinator)
    ready = await coordinator.until_state("demo-1", Replica.STATE_READY)
    assert agent.engine_processes() == [ready.pid]
    assert (ready.generation, ready.restarts) == (1, 0)


@pytest.mark.parametrize("point", ["failure_seen", "leftovers_cleared"])
async def test_a_crash_while_a_dead_engine_is_cleared_away(
    agent: AgentProcess, coordinator: FakeCoordinator, point: str
) -> None:
    fail_at(agent, point)
    coordinator.assign(a_demo_replica(leave_child=True))
    await agent.start()
    first = await coordinator.until_state("demo-1", Replica.STATE_READY)
    os.kill(first.pid, signal.SIGKILL)
    await next_agent(agent, coordinator)
    again = await coordinator.until_replica(
        "demo-1", lambda seen: seen.state == Replica.STATE_READY and seen.pid != first.pid
    )
    assert ProcessIdentity.of(first.pid) is None
    # The new engine and the child that this one, too, leaves beside it.
    assert len(agent.engine_processes()) == 2
    assert again.pid in agent.engine_processes()
    assert again.restarts == 1


@pytest.mark.parametrize("point", ["engine_stopped", "engine_cleared"])
async def test_a_crash_while_an_engine_is_stopped(
    agent: AgentProcess, coordinator: FakeCoordinator, point: str
) -> None:
    fail_at(agent, point)
    coordinator.assign(a_demo_replica(leave_child=True))
    await agent.start()
    await coordinator.until_state("demo-1", Replica.STATE_READY)
    coordinator.assign()
    await next_agent(agent, coordinator)
    await coordinator.until(lambda: len(coordinator.hellos) == 2)
    await coordinator.until_gone("demo-1")
    assert agent.engine_processes() == []


async def test_an_agent_that_adopted_takes_new_work(agent: AgentProcess, coordinator: FakeCoordinator) -> None:
    coordinator.assign(a_demo_replica())
    await agent.start()
    first = await coordinator.until_state("demo-1", Replica.STATE_READY)
    await agent.kill()
    await agent.start()
    coordinator.assign(a_demo_replica(), a_demo_replica("other-1"))
    other = await coordinator.until_state("other-1", Replica.STATE_READY)
    assert sorted(agent.engine_processes()) == sorted([first.pid, other.pid])
