"""Real vLLM whose API server alone is killed: what it leaves behind is found and killed, and only then the next one starts."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import psutil
import pytest
from fakes.agent_process import AgentProcess, a_demo_replica
from fakes.coordinator import FakeCoordinator
from studio.v1.agent_service_pb2 import ReplicaObservation
from studio.v1.assignment_pb2 import AssignedReplica
from studio.v1.recipe_pb2 import EngineArgs, EngineChoice
from studio.v1.replica_pb2 import Replica
from studio_runtime.process import ProcessIdentity

START_SECONDS = 300.0


@pytest.fixture
async def coordinator() -> AsyncIterator[FakeCoordinator]:
    async with FakeCoordinator() as fake:
        yield fake


@pytest.fixture
async def agent(
    tmp_path: Path, coordinator: FakeCoordinator, engine_environment: Path, engines_dir: Path
) -> AsyncIterator[AgentProcess]:
    assert engine_environment.is_relative_to(engines_dir)
    # The environment that was installed above is found, not installed again.
    (tmp_path / "engines").symlink_to(engines_dir)
    async with AgentProcess(tmp_path, coordinator.address, "--model-root", "/") as process:
        yield process


def a_tiny_vllm(model: Path) -> AssignedReplica:
    replica = a_demo_replica("tiny-1")
    replica.recipe.engine.CopyFrom(EngineChoice(name="vllm"))
    args = EngineArgs(enforce_eager=True)
    args.max_model_len.value = 512
    replica.recipe.args.CopyFrom(args)
    replica.recipe.model.source = f"path://{model}"
    replica.model_names[:] = ["tiny"]
    return replica


async def until_ready(coordinator: FakeCoordinator, restarts: int = 0) -> ReplicaObservation:
    return await coordinator.until_replica(
        "tiny-1", lambda seen: seen.state == Replica.STATE_READY and seen.restarts == restarts, START_SECONDS
    )


async def test_workers_that_outlive_their_api_server_are_gone_before_the_next_start(
    agent: AgentProcess, coordinator: FakeCoordinator, tiny_model: Path
) -> None:
    coordinator.assign(a_tiny_vllm(tiny_model))
    first = await until_ready(coordinator)
    # By parentage: the workers write their titles over their environment, and with it the mark that others are told by.
    workers = psutil.Process(first.pid).children(recursive=True)
    assert [worker for worker in workers if "EngineCore" in " ".join(worker.cmdline())], workers
    left = [identity for worker in workers if (identity := ProcessIdentity.of(worker.pid))]

    os.kill(first.pid, signal.SIGKILL)
    failed = await coordinator.until_event("replica.failed")
    assert failed.event.attributes["exit_code"] == "-9"
    # At the moment at which the next start is seen, nothing of the old one may be alive.
    async with asyncio.timeout(60):
        while not set(agent.engine_processes()) - {first.pid, *(identity.pid for identity in left)}:
            await asyncio.sleep(0.005)
    assert [identity for identity in left if identity.is_running()] == []

    again = await until_ready(coordinator, restarts=1)
    assert again.pid != first.pid


async def test_a_stream_survives_the_agent_and_the_next_one_adopts_the_engine(
    agent: AgentProcess, coordinator: FakeCoordinator, tiny_model: Path
) -> None:
    coordinator.assign(a_tiny_vllm(tiny_model))
    ready = await until_ready(coordinator)
    body = {"model": "tiny", "prompt": "hello", "max_tokens": 400, "stream": True, "ignore_eos": True}
    async with aiohttp.ClientSession() as http, http.post(f"{ready.base_url}/v1/completions", json=body) as response:
        await response.content.readline()
        await agent.kill()
        rest = await response.content.read()
    assert rest.rstrip().endswith(b"data: [DONE]")
    assert rest.count(b"data: ") > 300

    await agent.start()
    await coordinator.until(lambda: len(coordinator.hellos) == 2)
    (seen,) = coordinator.hellos[1].replicas
    assert (seen.pid, seen.state, seen.restarts) == (ready.pid, Replica.STATE_READY, 0)
