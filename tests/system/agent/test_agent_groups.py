"""One replica over two hosts: a real demo engine of two processes, under two real agents."""

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from fakes.agent_process import a_demo_replica
from fakes.coordinator import State
from fakes.two_hosts import TwoHosts, two_hosts


@pytest.fixture
async def hosts(tmp_path: Path) -> AsyncIterator[TwoHosts]:
    async with two_hosts(tmp_path) as both:
        yield both


async def answers(url: str) -> int:
    body = {"model": "demo", "prompt": "hello", "max_tokens": 2}
    async with aiohttp.ClientSession() as http, http.post(f"{url}/v1/completions", json=body) as response:
        return response.status


async def test_ranks_wait_for_one_another_serve_and_fail_together(hosts: TwoHosts):
    hosts.assign(a_demo_replica(), ranks=(0,))
    alone = await hosts.until(0, State.STATE_STARTING)
    hosts.assign(a_demo_replica(), ranks=(1,))
    first = leader, member = await hosts.until_both(State.STATE_READY)
    assert leader.pid == alone.pid
    assert await answers(leader.base_url) == 200
    assert (leader.rank, member.rank) == (0, 1)
    # Nobody is to be sent to a rank that does not answer.
    assert member.base_url == ""
    assert "joined rank 0" in member.state_reason

    os.kill(member.pid, signal.SIGKILL)
    second = await hosts.until_both(State.STATE_READY, after=first)
    assert await answers(second[0].base_url) == 200
    os.kill(second[0].pid, signal.SIGKILL)
    third = await hosts.until_both(State.STATE_READY, after=second)

    # A new generation replaces all of it; a rank that answers no requests has nothing to drain but rank 0.
    hosts.assign(a_demo_replica(generation=2))
    await hosts.until_both(State.STATE_READY, after=third)
    hosts.assign_nothing()
    await hosts.until_gone()


async def test_a_new_agent_adopts_its_part_with_its_place(hosts: TwoHosts):
    hosts.assign(a_demo_replica())
    before = await hosts.until_both(State.STATE_READY)
    for agent, coordinator in zip(hosts.agents, hosts.coordinators, strict=True):
        await agent.kill()
        coordinator.observed.clear()
        await agent.start()
    after = await hosts.until_both(State.STATE_READY)
    assert [(one.pid, one.rank) for one in after] == [(one.pid, one.rank) for one in before]
    assert await answers(after[0].base_url) == 200
