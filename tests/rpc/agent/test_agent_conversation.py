"""The agent's side of the stream against a real server, without a process of its own."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fakes.agent_in_process import AgentInProcess
from fakes.coordinator import FakeCoordinator
from studio_agent.launch import EngineCgroups, ProcessLauncher
from studio_agent.probe import Prober


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[AgentInProcess]:
    async with Prober() as prober:
        yield AgentInProcess(tmp_path, prober, ProcessLauncher("test", EngineCgroups(None)))


@pytest.fixture
async def coordinator() -> AsyncIterator[FakeCoordinator]:
    async with FakeCoordinator(heartbeat_seconds=0.05) as fake:
        yield fake


@pytest.fixture
async def background() -> AsyncIterator[set[asyncio.Task[None]]]:
    tasks: set[asyncio.Task[None]] = set()
    yield tasks
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_supervising_loop_that_does_not_pass_sends_no_heartbeat(
    agent: AgentInProcess, coordinator: FakeCoordinator, background: set[asyncio.Task[None]]
) -> None:
    """The stream lives and carries events, and yet the lease is not renewed."""
    background.add(asyncio.ensure_future(agent.dial(coordinator)))
    for number in range(1, 6):
        agent.say(f"event {number}")
        await agent.events.flush()
        await coordinator.until(lambda number=number: number in coordinator.events)
    assert coordinator.heartbeats == []
    background.add(asyncio.ensure_future(agent.supervisor.run()))
    await coordinator.until(lambda: len(coordinator.heartbeats) >= 3)


async def test_events_are_sent_again_until_they_are_acknowledged(
    agent: AgentInProcess, coordinator: FakeCoordinator, background: set[asyncio.Task[None]]
) -> None:
    coordinator.ack_events = False
    agent.say("first")
    await agent.events.flush()
    background.add(asyncio.ensure_future(agent.dial(coordinator)))
    await coordinator.until(lambda: 1 in coordinator.events)
    coordinator.events.clear()
    await coordinator.stop()
    coordinator.ack_events = True
    await coordinator.start()
    await coordinator.until(lambda: 1 in coordinator.events)

    async def acknowledged() -> None:
        while agent.events.after(0, 1):
            await asyncio.sleep(0.01)

    await asyncio.wait_for(acknowledged(), 20)


async def test_the_link_is_there_while_the_session_is(
    agent: AgentInProcess, coordinator: FakeCoordinator, background: set[asyncio.Task[None]]
) -> None:
    background.add(asyncio.ensure_future(agent.dial(coordinator)))
    version = await agent.link.newer_than(0)
    assert agent.link.value is not None
    assert agent.link.value.welcome.session_epoch == 1
    await coordinator.stop()
    await agent.link.newer_than(version)
    assert agent.link.value is None
    await coordinator.start()
    await coordinator.until(lambda: len(coordinator.hellos) == 2)
    assert coordinator.hellos[1].labels["pool"] == "a"


async def test_a_coordinator_that_is_not_there_yet_is_found_when_it_comes(
    agent: AgentInProcess, coordinator: FakeCoordinator, background: set[asyncio.Task[None]]
) -> None:
    await coordinator.stop()
    background.add(asyncio.ensure_future(agent.dial(coordinator)))
    await asyncio.sleep(0)
    await coordinator.start()
    await coordinator.until(lambda: coordinator.hellos)
