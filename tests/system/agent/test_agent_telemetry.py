"""Figures of engines: each is read on its own, and what is old is said to be."""

import os
import signal

import aiohttp
import pytest
from fakes.agent_process import a_demo_replica
from fakes.coordinator import FakeCoordinator
from studio.v1.replica_pb2 import Replica, ReplicaFigures


def latest(coordinator: FakeCoordinator, name: str) -> ReplicaFigures:
    return coordinator.telemetry[-1].replicas[name] if coordinator.telemetry else ReplicaFigures()


@pytest.mark.usefixtures("agent")
async def test_an_engine_that_does_not_answer_is_stale_and_delays_nobody(coordinator: FakeCoordinator) -> None:
    coordinator.assign(a_demo_replica("slow-1"), a_demo_replica("quick-1"))
    slow = await coordinator.until_state("slow-1", Replica.STATE_READY)
    quick = await coordinator.until_state("quick-1", Replica.STATE_READY)
    for name in ("slow-1", "quick-1"):
        await coordinator.until(lambda name=name: latest(coordinator, name).HasField("running"))
    os.kill(slow.pid, signal.SIGSTOP)
    await coordinator.until(lambda: latest(coordinator, "slow-1").stale)
    # What it said last is still there.
    assert latest(coordinator, "slow-1").generation_tokens_total == 1

    body = {"model": "demo", "prompt": "hello", "max_tokens": 30}
    async with aiohttp.ClientSession() as http, http.post(f"{quick.base_url}/v1/completions", json=body) as response:
        assert response.ok
    await coordinator.until(lambda: latest(coordinator, "quick-1").generation_tokens_total >= 31)
    figures = latest(coordinator, "quick-1")
    assert not figures.stale
    assert figures.generation_tokens_per_second > 0
    assert figures.time_to_first_token_seconds.count >= 2
    assert figures.inter_token_seconds.count >= 29
    assert figures.HasField("kv_used_share")
    assert figures.HasField("prefix_hit_share")
    # All the while the slow one was waited for by nobody.
    assert latest(coordinator, "slow-1").stale
    os.kill(slow.pid, signal.SIGCONT)
    await coordinator.until(lambda: not latest(coordinator, "slow-1").stale)
