"""Sleeping and waking: the process stays, the memory goes and comes back."""

import os
import signal
from pathlib import Path

import aiohttp
import pytest
from fakes.agent_process import AgentProcess, a_demo_replica
from fakes.coordinator import FakeCoordinator
from studio.v1.agent_service_pb2 import AssignmentAck, AssignmentNack, ReplicaObservation
from studio.v1.assignment_pb2 import AssignedReplica
from studio.v1.replica_pb2 import Replica


def wished(wish: "AssignedReplica.Wish.ValueType", *, can: bool = True, **demo: object) -> AssignedReplica:
    replica = a_demo_replica(gpu_memory_bytes=1_000_000, **demo)
    replica.recipe.args.sleep_mode = can
    replica.wish = wish
    return replica


def claimed(agent: AgentProcess) -> list[Path]:
    """What the engine holds of its simulated GPU memory."""
    return list((agent.state / "cache" / "demo-gpu-memory").glob("*"))


async def is_sleeping(replica: ReplicaObservation) -> bool:
    async with aiohttp.ClientSession() as http, http.get(f"{replica.base_url}/is_sleeping") as response:
        return bool((await response.json())["is_sleeping"])


async def asleep(coordinator: FakeCoordinator) -> ReplicaObservation:
    return await coordinator.until_replica(
        "demo-1", lambda replica: replica.state == Replica.STATE_SLEEPING and "it sleeps" in replica.state_reason
    )


async def test_it_sleeps_over_the_agents_end_and_wakes_as_the_same_process(
    agent: AgentProcess, coordinator: FakeCoordinator
) -> None:
    coordinator.assign(wished(AssignedReplica.WISH_RUN))
    ready = await coordinator.until_state("demo-1", Replica.STATE_READY)
    assert claimed(agent)

    coordinator.assign(wished(AssignedReplica.WISH_SLEEP))
    resting = await asleep(coordinator)
    assert resting.pid == ready.pid
    assert await is_sleeping(resting)
    assert not claimed(agent)
    await coordinator.until_event("replica.sleeping")

    await agent.kill()
    await agent.start()
    await coordinator.until(lambda: len(coordinator.hellos) == 2)
    assert (await asleep(coordinator)).pid == ready.pid

    coordinator.assign(wished(AssignedReplica.WISH_RUN))
    awake = await coordinator.until_state("demo-1", Replica.STATE_READY)
    assert (awake.pid, awake.restarts) == (ready.pid, 0)
    assert "after it was woken" in awake.state_reason
    assert claimed(agent)
    states = [state for _, state in coordinator.history]
    assert states[-3:] == ["SLEEPING", "WAKING", "READY"]


@pytest.mark.usefixtures("agent")
async def test_what_is_in_flight_finishes_before_it_sleeps(coordinator: FakeCoordinator) -> None:
    coordinator.assign(wished(AssignedReplica.WISH_RUN, tokens_per_second=20.0))
    ready = await coordinator.until_state("demo-1", Replica.STATE_READY)
    body = {"model": "demo", "prompt": "hello", "max_tokens": 20, "stream": True}
    async with aiohttp.ClientSession() as http, http.post(f"{ready.base_url}/v1/completions", json=body) as response:
        await response.content.readline()
        coordinator.assign(wished(AssignedReplica.WISH_SLEEP, tokens_per_second=20.0))
        await coordinator.until_state("demo-1", Replica.STATE_SLEEPING)
        assert (await response.content.read()).rstrip().endswith(b"data: [DONE]")
    await asleep(coordinator)


@pytest.mark.usefixtures("agent")
async def test_one_that_is_to_sleep_from_the_first_is_started_and_then_sleeps(coordinator: FakeCoordinator) -> None:
    coordinator.assign(wished(AssignedReplica.WISH_SLEEP))
    assert await is_sleeping(await asleep(coordinator))


async def test_a_sleeping_engine_is_stopped_like_any_other(agent: AgentProcess, coordinator: FakeCoordinator) -> None:
    coordinator.assign(wished(AssignedReplica.WISH_SLEEP))
    await asleep(coordinator)
    coordinator.assign()
    await coordinator.until_event("replica.stopped")
    assert not agent.engine_processes()


@pytest.mark.usefixtures("agent")
async def test_an_engine_that_dies_asleep_is_a_failure_and_sleeps_again(coordinator: FakeCoordinator) -> None:
    coordinator.assign(wished(AssignedReplica.WISH_SLEEP))
    first = await asleep(coordinator)
    os.kill(first.pid, signal.SIGKILL)
    failed = await coordinator.until_event("replica.failed")
    assert failed.event.attributes["exit_code"] == "-9"
    second = await coordinator.until_replica(
        "demo-1", lambda r: r.state == Replica.STATE_SLEEPING and r.pid != first.pid and "it sleeps" in r.state_reason
    )
    assert second.restarts == 1


@pytest.mark.usefixtures("agent")
async def test_an_engine_that_dies_while_it_wakes_is_started_anew(coordinator: FakeCoordinator) -> None:
    coordinator.assign(wished(AssignedReplica.WISH_RUN))
    ready = await coordinator.until_state("demo-1", Replica.STATE_READY)
    coordinator.assign(wished(AssignedReplica.WISH_SLEEP))
    await asleep(coordinator)
    # Frozen, it does not answer to being woken.
    os.kill(ready.pid, signal.SIGSTOP)
    coordinator.assign(wished(AssignedReplica.WISH_RUN))
    await coordinator.until_state("demo-1", Replica.STATE_WAKING)
    os.kill(ready.pid, signal.SIGKILL)
    await coordinator.until_event("replica.failed")
    again = await coordinator.until_state("demo-1", Replica.STATE_READY)
    assert again.restarts == 1


@pytest.mark.usefixtures("agent")
async def test_a_replica_that_cannot_sleep_is_refused_alone_and_serves(coordinator: FakeCoordinator) -> None:
    generation = coordinator.assign(wished(AssignedReplica.WISH_SLEEP, can=False))
    await coordinator.until_state("demo-1", Replica.STATE_READY)
    await coordinator.until(lambda: len(coordinator.answers) == 2)
    taken, but = coordinator.answers
    assert isinstance(taken, AssignmentAck)
    assert isinstance(but, AssignmentNack)
    assert (taken.generation, but.generation) == (generation, generation)
    assert "args.sleep_mode" in but.replica_reasons["demo-1"]
    heard = len(coordinator.heartbeats)
    await coordinator.until(lambda: len(coordinator.heartbeats) > heard + 2)
    assert ("demo-1", "SLEEPING") not in coordinator.history


@pytest.mark.usefixtures("agent")
async def test_changing_ones_mind_again_and_again_ends_with_the_last_wish(coordinator: FakeCoordinator) -> None:
    coordinator.assign(wished(AssignedReplica.WISH_RUN))
    ready = await coordinator.until_state("demo-1", Replica.STATE_READY)
    for _ in range(4):
        coordinator.assign(wished(AssignedReplica.WISH_SLEEP))
        await coordinator.until_state("demo-1", Replica.STATE_SLEEPING)
        coordinator.assign(wished(AssignedReplica.WISH_RUN))
    await coordinator.until_replica("demo-1", lambda r: r.state == Replica.STATE_READY)
    assert coordinator.observed["demo-1"].pid == ready.pid
    assert not await is_sleeping(ready)
