"""A real llama.cpp server under the real agent: its flags, phases, metrics and end, on a tiny model made on the spot.

It is not published as a package, so it is taken where it is: `STUDIO_LLAMA_SERVER`, or `llama-server` on PATH.
"""

import os
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from fakes.agent_process import AgentProcess
from fakes.coordinator import FakeCoordinator, State
from fakes.tiny_gguf import write_tiny_gguf
from google.protobuf.json_format import ParseDict
from studio.v1.assignment_pb2 import AssignedReplica
from studio.v1.recipe_pb2 import Recipe
from studio_agent.models.description import describe_model

SERVER = os.environ.get("STUDIO_LLAMA_SERVER") or shutil.which("llama-server")
pytestmark = pytest.mark.skipif(SERVER is None, reason="no llama-server: set STUDIO_LLAMA_SERVER to have it tested")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiny-gguf") / "tiny.gguf"
    write_tiny_gguf(path)
    return path


@pytest.fixture
async def coordinator() -> AsyncIterator[FakeCoordinator]:
    async with FakeCoordinator() as fake:
        yield fake


def a_replica(model: Path, **extra: object) -> AssignedReplica:
    recipe = {
        "name": "tiny",
        "engine": {"name": "llamacpp", "path": SERVER},
        "model": {"source": f"path://{model}"},
        "args": {"max_model_len": {"value": 256}, "max_num_seqs": 2},
        "extra_args": {"threads": 1, **extra},
        "resources": {"gpu": {"count": {"value": 0}}},
    }
    return AssignedReplica(
        replica_id="tiny-1",
        deployment="tiny",
        generation=1,
        recipe=ParseDict(recipe, Recipe()),
        model_names=["tiny", "small"],
    )


async def test_it_serves_counts_and_is_started_anew(model: Path, tmp_path: Path, coordinator: FakeCoordinator):
    assert describe_model(model).tensor_headers["tiny.gguf"]
    async with AgentProcess(tmp_path, coordinator.address, "--model-root", "/") as agent:
        coordinator.assign(a_replica(model))
        ready = await coordinator.until_state("tiny-1", State.STATE_READY, timeout=120)
        async with aiohttp.ClientSession() as http:
            async with http.get(f"{ready.base_url}/v1/models") as listed:
                (served,) = (await listed.json())["data"]
                assert {served["id"], *served["aliases"]} == {"tiny", "small"}
            body = {"model": "tiny", "messages": [{"role": "user", "content": "the"}], "max_tokens": 8}
            async with http.post(f"{ready.base_url}/v1/chat/completions", json=body) as answer:
                assert (await answer.json())["usage"]["completion_tokens"] > 0

        def counted() -> bool:
            figures = coordinator.telemetry[-1].replicas["tiny-1"] if coordinator.telemetry else None
            return figures is not None and figures.HasField("running") and figures.generation_tokens_total > 0

        await coordinator.until(counted)
        os.kill(ready.pid, signal.SIGKILL)
        await coordinator.until_event("replica.failed")
        again = await coordinator.until_state("tiny-1", State.STATE_READY, timeout=120)
        assert again.pid != ready.pid
        coordinator.assign()
        await coordinator.until(lambda: not coordinator.observed)
        assert not agent.engine_processes()


async def test_what_it_does_not_take_is_refused_by_its_own_list(
    model: Path, tmp_path: Path, coordinator: FakeCoordinator
):
    async with AgentProcess(tmp_path, coordinator.address, "--model-root", "/"):
        coordinator.assign(a_replica(model, **{"no-such-flag": 1}))
        failed = await coordinator.until_state("tiny-1", State.STATE_FAILED, timeout=60)
        assert "no-such-flag" in failed.failure.message
        assert failed.gave_up


async def test_a_file_that_is_no_model_is_named(tmp_path: Path, coordinator: FakeCoordinator):
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(64))
    async with AgentProcess(tmp_path, coordinator.address, "--model-root", "/"):
        coordinator.assign(a_replica(broken))
        failed = await coordinator.until_state("tiny-1", State.STATE_FAILED, timeout=60)
        assert failed.failure.reason not in ("", "exited")
        assert failed.failure.cause_line
