"""Real vLLM as two processes of one replica, as on two hosts: it starts, answers, fails and stops as a whole."""

import asyncio
import os
import signal
from http import HTTPStatus
from pathlib import Path

import aiohttp
from fakes.coordinator import State
from fakes.two_hosts import two_hosts
from google.protobuf.json_format import ParseDict
from studio.v1.assignment_pb2 import AssignedReplica
from studio.v1.recipe_pb2 import Recipe
from studio_agent.launch.proc_scan import pids, token_of

START_SECONDS = 300


def a_replica(program: Path, model: Path) -> AssignedReplica:
    recipe = ParseDict(
        {
            "name": "tiny",
            "engine": {"name": "vllm", "path": str(program)},
            "model": {"source": f"path://{model}"},
            "args": {"max_model_len": {"value": 512}, "enforce_eager": True},
            "resources": {"gpu": {"count": {"value": 0}}, "hosts": 2},
        },
        Recipe(),
    )
    replica = AssignedReplica(replica_id="tiny-1", deployment="tiny", generation=1, recipe=recipe, model_names=["tiny"])
    replica.drain_deadline.FromSeconds(60)
    replica.stop_grace.FromSeconds(30)
    return replica


async def test_two_ranks_are_one_engine(engine_environment: Path, tiny_model: Path, tmp_path: Path):
    async with two_hosts(tmp_path, "--model-root", "/") as hosts:
        hosts.assign(a_replica(engine_environment, tiny_model))
        first = leader, member = await hosts.until_both(State.STATE_READY, timeout=START_SECONDS)
        assert (member.rank, member.base_url) == (1, "")
        assert await status_of(leader.base_url) == HTTPStatus.OK
        for pid in worker_processes(hosts.agents[1].state):
            os.kill(pid, signal.SIGKILL)
        # Rank 0 cannot go on without rank 1. It learns of it by a request, and is started anew like rank 1.
        async with asyncio.timeout(60):
            while await status_of(leader.base_url) == HTTPStatus.OK:
                await asyncio.sleep(0.2)
        await hosts.until_both(State.STATE_READY, after=first, timeout=START_SECONDS)
        # Of an engine that is to go, rank 1 waits for the end of rank 0, which says nothing to it.
        hosts.assign_nothing()
        await hosts.until_gone()
        assert hosts.agents[0].engine_processes() == hosts.agents[1].engine_processes() == []


async def status_of(url: str) -> int:
    """What a completion is answered with; 0: with nothing."""
    body = {"model": "tiny", "prompt": "hello", "max_tokens": 4}
    try:
        async with aiohttp.ClientSession() as http, http.post(f"{url}/v1/completions", json=body) as answer:
            return answer.status
    except aiohttp.ClientError:
        return 0


def worker_processes(state: Path) -> list[int]:
    host_id = (state / "host-id").read_text()
    return [pid for pid in pids() if token_of(pid, host_id)]
