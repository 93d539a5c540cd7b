"""What an engine goes through: start, ready, failure, restart, giving up, draining, stopping."""

import asyncio
import os
import signal
import socket
import sys

import aiohttp
import pytest
from fakes.agent_process import AgentProcess, a_demo_replica
from fakes.coordinator import FakeCoordinator
from studio.v1.agent_service_pb2 import ReplicaObservation
from studio.v1.recipe_pb2 import EngineChoice
from studio.v1.replica_pb2 import Replica
from studio_runtime.process import ProcessIdentity


def port_of(replica: ReplicaObservation) -> int:
    return int(replica.base_url.rpartition(":")[2])


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def test_an_engine_starts_serves_and_stops_without_a_trace(
    agent: AgentProcess, coordinator: FakeCoordinator
) -> None:
    coordinator.assign(a_demo_replica(load_seconds=0.3))
    starting = await coordinator.until_replica("demo-1", lambda r: bool(r.progress.phase))
    assert starting.state == Replica.STATE_STARTING
    ready = await coordinator.until_state("demo-1", Replica.STATE_READY)
    assert is_listening(port_of(ready))
    assert ready.pid in agent.engine_processes()

    coordinator.assign()
    await coordinator.until_state("demo-1", Replica.STATE_STOPPED)
    assert not agent.engine_processes()
    assert not is_listening(port_of(ready))
    await coordinator.until_gone("demo-1")
    await coordinator.until_event("replica.stopped")
    assert coordinator.kinds() == ["agent.started", "replica.starting", "replica.ready", "replica.stopped"]


@pytest.mark.usefixtures("agent")
async def test_a_killed_engine_is_a_failure_with_a_reason_and_is_restarted(coordinator: FakeCoordinator) -> None:
    coordinator.assign(a_demo_replica())
    first = await coordinator.until_state("demo-1", Replica.STATE_READY)
    os.kill(first.pid, signal.SIGKILL)
    failed = await coordinator.until_event("replica.failed")
    assert failed.event.reason
    assert failed.event.attributes["exit_code"] == "-9"
    assert "restart 1 of 3 in 1 s" in failed.event.message
    second = await coordinator.until_state("demo-1", Replica.STATE_READY)
    assert second.pid != first.pid
    assert second.restarts == 1
    assert not second.HasField("failure")
    assert ProcessIdentity.of(first.pid) is None


async def test_what_a_dead_engine_left_behind_is_gone_before_the_next_one_starts(
    agent: AgentProcess, coordinator: FakeCoordinator
) -> None:
    coordinator.assign(a_demo_replica(leave_child=True))
    first = await coordinator.until_state("demo-1", Replica.STATE_READY)
    before = set(agent.engine_processes())
    assert len(before) == 2, "the engine and the child in its own session"
    os.kill(first.pid, signal.SIGKILL)
    await coordinator.until_event("replica.restarting")
    assert before.isdisjoint(agent.engine_processes())
    await coordinator.until_state("demo-1", Replica.STATE_READY)


async def test_an_engine_that_ignores_sigterm_is_killed_after_its_grace(
    agent: AgentProcess, coordinator: FakeCoordinator
) -> None:
    replica = a_demo_replica(ignore_sigterm=True, leave_child=True)
    replica.stop_grace.FromMilliseconds(300)
    coordinator.assign(replica)
    ready = await coordinator.until_state("demo-1", Replica.STATE_READY)
    coordinator.assign()
    await coordinator.until_event("replica.stopped")
    assert not agent.engine_processes()
    assert not is_listening(port_of(ready))


async def test_exit_code_zero_is_a_failure_and_the_budget_outlives_the_agent(
    agent: AgentProcess, coordinator: FakeCoordinator
) -> None:
    coordinator.assign(a_demo_replica(exit_code=0, exit_after_seconds=0.0, load_seconds=60.0))
    first = await coordinator.until_event("replica.failed")
    assert "restart 1 of 3" in first.event.message
    await coordinator.until_replica("demo-1", lambda r: r.restarts == 1)
    await agent.kill()
    await agent.start()
    second = await coordinator.until(
        lambda: next((e.event for e in coordinator.events.values() if "restart 2 of 3" in e.event.message), None)
    )
    assert second.attributes["exit_code"] in ("0", "")
    assert coordinator.observed["demo-1"].failure.retryable


@pytest.mark.usefixtures("agent")
async def test_what_no_retry_can_mend_is_given_up_at_once(coordinator: FakeCoordinator) -> None:
    broken = a_demo_replica("broken-1")
    broken.recipe.engine.CopyFrom(EngineChoice(name="no-such-engine"))
    coordinator.assign(broken, a_demo_replica("good-1"))
    failed = await coordinator.until_state("broken-1", Replica.STATE_FAILED)
    assert failed.gave_up
    assert failed.failure.reason == "unknown_engine"
    assert failed.failure.hint
    # One bad replica is no one else's trouble.
    await coordinator.until_state("good-1", Replica.STATE_READY)

    # Only another generation is tried again, and it starts afresh.
    coordinator.assign(a_demo_replica("broken-1", generation=2), a_demo_replica("good-1"))
    mended = await coordinator.until_state("broken-1", Replica.STATE_READY)
    assert (mended.generation, mended.restarts, mended.gave_up) == (2, 0, False)


@pytest.mark.usefixtures("agent")
async def test_a_running_stream_is_drained_before_the_engine_is_stopped(coordinator: FakeCoordinator) -> None:
    coordinator.assign(a_demo_replica(tokens_per_second=20.0))
    ready = await coordinator.until_state("demo-1", Replica.STATE_READY)
    body = {"model": "demo", "prompt": "hello", "max_tokens": 20, "stream": True}
    async with aiohttp.ClientSession() as http, http.post(f"{ready.base_url}/v1/completions", json=body) as response:
        first = await response.content.readline()
        assert first.startswith(b"data: ")
        coordinator.assign()
        await coordinator.until_state("demo-1", Replica.STATE_DRAINING)
        rest = await response.content.read()
    assert rest.rstrip().endswith(b"data: [DONE]")
    await coordinator.until_event("replica.stopped")


async def test_a_new_generation_replaces_the_engine(agent: AgentProcess, coordinator: FakeCoordinator) -> None:
    coordinator.assign(a_demo_replica(generation=1))
    first = await coordinator.until_state("demo-1", Replica.STATE_READY)
    coordinator.assign(a_demo_replica(generation=2))
    second = await coordinator.until_replica("demo-1", lambda r: r.state == Replica.STATE_READY and r.generation == 2)
    assert second.pid != first.pid
    assert agent.engine_processes() == [second.pid]


@pytest.mark.usefixtures("agent")
async def test_a_stranger_on_the_port_is_left_alone_and_costs_nothing(coordinator: FakeCoordinator) -> None:
    """It even answers as the engine would: its answers prove nothing, another port is tried, and no restart is counted."""
    coordinator.assign(a_demo_replica(load_seconds=1.5))
    started = await coordinator.until_replica("demo-1", lambda r: bool(r.base_url))
    port = str(port_of(started))
    stranger = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "studio_agent.demo_engine", "--model", "demo", "--port", port
    )
    try:
        ready = await coordinator.until_state("demo-1", Replica.STATE_READY)
        assert port_of(ready) != port_of(started)
        assert ready.restarts == 0
        assert stranger.returncode is None
    finally:
        stranger.kill()
        await stranger.wait()
    failed = await coordinator.until_event("replica.failed")
    assert failed.event.reason == "port_in_use"
