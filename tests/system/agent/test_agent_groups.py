"""One replica over two hosts: two real agents, and a real demo engine of two processes."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from fakes.agent_process import AgentProcess, a_demo_replica
from fakes.coordinator import FakeCoordinator, State
from fakes.demo_process import free_port
from studio.v1.agent_service_pb2 import ReplicaObservation
from studio.v1.assignment_pb2 import AssignedReplica, Group


class TwoHosts:
    """Two agents, each with a coordinator of its own: the test says to both what the real one would."""

    def __init__(self, coordinators: list[FakeCoordinator], agents: list[AgentProcess]) -> None:
        self.coordinators = coordinators
        self.agents = agents
        self._port = free_port()

    def assign(self, generation: int = 1, ranks: tuple[int, ...] = (0, 1)) -> None:
        for rank in ranks:
            self.coordinators[rank].assign(self._part(rank, generation))

    async def until(self, rank: int, state: "State.ValueType", after: int = 0) -> ReplicaObservation:
        """Wait for a rank in ``state``, in another process than ``after``."""
        return await self.coordinators[rank].until_replica("demo-1", lambda it: it.state == state and it.pid != after)

    def _part(self, rank: int, generation: int) -> AssignedReplica:
        part = a_demo_replica("demo-1", generation)
        group = Group(rank=rank, size=2, leader_address="127.0.0.1", leader_port=self._port)
        part.group.CopyFrom(group)
        return part


@pytest.fixture
async def hosts(tmp_path: Path) -> AsyncIterator[TwoHosts]:
    async with contextlib.AsyncExitStack() as stack:
        coordinators = [await stack.enter_async_context(FakeCoordinator()) for _ in range(2)]
        agents = []
        for rank, coordinator in enumerate(coordinators):
            folder = tmp_path / f"host-{rank}"
            folder.mkdir()
            agents.append(await stack.enter_async_context(AgentProcess(folder, coordinator.address)))
        await asyncio.gather(*(each.until(lambda each=each: each.connected) for each in coordinators))
        yield TwoHosts(coordinators, agents)


async def answers(url: str) -> int:
    body = {"model": "demo", "prompt": "hello", "max_tokens": 2}
    async with aiohttp.ClientSession() as http, http.post(f"{url}/v1/completions", json=body) as response:
        return response.status


async def test_ranks_wait_for_one_another_serve_and_fail_together(hosts: TwoHosts):
    hosts.assign(ranks=(0,))
    alone = await hosts.until(0, State.STATE_STARTING)
    hosts.assign(ranks=(1,))
    leader, member = await asyncio.gather(hosts.until(0, State.STATE_READY), hosts.until(1, State.STATE_READY))
    assert leader.pid == alone.pid
    assert await answers(leader.base_url) == 200
    assert (leader.rank, member.rank) == (0, 1)
    # Nobody is to be sent to a rank that does not answer.
    assert member.base_url == ""
    assert "joined rank 0" in member.state_reason

    os.kill(member.pid, signal.SIGKILL)
    again = await asyncio.gather(
        hosts.until(0, State.STATE_READY, after=leader.pid), hosts.until(1, State.STATE_READY, after=member.pid)
    )
    assert await answers(again[0].base_url) == 200
    os.kill(again[0].pid, signal.SIGKILL)
    last = await asyncio.gather(
        hosts.until(0, State.STATE_READY, after=again[0].pid), hosts.until(1, State.STATE_READY, after=again[1].pid)
    )

    # A new generation replaces all of it; a rank that answers no requests has nothing to drain but rank 0.
    hosts.assign(generation=2)
    await asyncio.gather(
        hosts.until(0, State.STATE_READY, after=last[0].pid), hosts.until(1, State.STATE_READY, after=last[1].pid)
    )
    for coordinator in hosts.coordinators:
        coordinator.assign()
        await coordinator.until(lambda seen=coordinator: not seen.observed)


async def test_a_new_agent_adopts_its_part_with_its_place(hosts: TwoHosts):
    hosts.assign()
    before = await asyncio.gather(hosts.until(0, State.STATE_READY), hosts.until(1, State.STATE_READY))
    for rank in (0, 1):
        await hosts.agents[rank].kill()
        hosts.coordinators[rank].observed.clear()
        await hosts.agents[rank].start()
    after = await asyncio.gather(hosts.until(0, State.STATE_READY), hosts.until(1, State.STATE_READY))
    assert [(one.pid, one.rank) for one in after] == [(one.pid, one.rank) for one in before]
    assert await answers(after[0].base_url) == 200
