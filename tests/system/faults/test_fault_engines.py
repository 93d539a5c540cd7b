"""Fault 10: one engine crashes; it is a failure with its cause, and no other engine notices."""

import os
import signal

import pytest
from fakes.agent_process import AgentProcess, a_demo_replica
from fakes.coordinator import FakeCoordinator
from studio.v1.replica_pb2 import Replica


async def test_a_segfault_is_named_and_leaves_the_neighbour_alone(
    agent: AgentProcess, coordinator: FakeCoordinator
) -> None:
    coordinator.assign(a_demo_replica(), a_demo_replica("other-1"))
    first = await coordinator.until_state("demo-1", Replica.STATE_READY)
    other = await coordinator.until_state("other-1", Replica.STATE_READY)
    os.kill(first.pid, signal.SIGSEGV)
    failed = await coordinator.until_event("replica.failed")
    assert failed.event.attributes["exit_code"] == str(-signal.SIGSEGV)
    again = await coordinator.until_replica(
        "demo-1", lambda seen: seen.state == Replica.STATE_READY and seen.restarts == 1
    )
    unchanged = coordinator.observed["other-1"]
    assert (unchanged.pid, unchanged.restarts) == (other.pid, 0)
    assert sorted(agent.engine_processes()) == sorted([again.pid, other.pid])


@pytest.mark.usefixtures("agent")
async def test_an_engine_that_dies_while_it_loads_shows_its_own_words(coordinator: FakeCoordinator) -> None:
    coordinator.assign(a_demo_replica(fail_line="torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB"))
    failed = await coordinator.until_event("replica.failed")
    assert "out of memory" in failed.event.attributes["cause_line"]
    assert failed.event.attributes["hint"]
