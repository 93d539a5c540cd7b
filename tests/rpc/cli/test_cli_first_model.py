"""What ``studio up`` does once the roles run: the key, the first recipe, and whether what is said to serve answers."""

import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fakes.admin import Fleet, admin_server
from fakes.console import silent_report
from studio.v1.replica_pb2 import Failure
from studio_cli import waiting
from studio_cli.coordinator import Coordinator, connect
from studio_cli.up.local_key import local_key
from studio_cli.up.options import UpOptions
from studio_cli.up.serve_first import serve_first
from studio_cli.up.served import all_answer, until_served
from studio_cli.views.starting import Standing, Verdict
from studio_runtime.settings import Address

VLLM = UpOptions(engine="vllm", model="Qwen/Qwen3-0.6B", name="chat")


@pytest.fixture
async def coordinator(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Coordinator]:
    monkeypatch.setattr(waiting, "POLL_SECONDS", 0.02)
    with admin_server(fleet) as address:
        async with connect([Address.parse(address)]) as connection:
            yield connection


async def serve(coordinator: Coordinator, options: UpOptions, gpu_count: int = 0) -> tuple[list[str], str]:
    return await serve_first(coordinator, options, gpu_count, silent_report())


async def test_an_empty_fleet_gets_the_demo(coordinator: Coordinator, fleet: Fleet):
    assert await serve(coordinator, UpOptions()) == (["demo"], "")
    (request,) = fleet.asked("Apply")
    assert request.create_only
    assert request.idempotency_key
    assert fleet.recipes["demo"][0].recipe.engine.name == "demo"


async def test_what_is_there_is_kept_and_waited_for(coordinator: Coordinator, fleet: Fleet):
    await serve(coordinator, VLLM)
    fleet.calls.clear()
    assert await serve(coordinator, UpOptions()) == (["chat"], "")
    assert not fleet.asked("Apply")


async def test_what_is_stopped_stays_stopped(coordinator: Coordinator, fleet: Fleet):
    await serve(coordinator, VLLM)
    fleet.deployments["chat"].stopped = True
    assert await serve(coordinator, UpOptions()) == ([], "")
    assert fleet.deployments["chat"].stopped


async def test_asking_again_for_the_same_changes_nothing_and_for_another_model_does(
    coordinator: Coordinator, fleet: Fleet
):
    await serve(coordinator, VLLM)
    fleet.deployments["chat"].spec.replicas.max = 3
    await serve(coordinator, VLLM)
    assert len(fleet.asked("Apply")) == 1
    assert fleet.deployments["chat"].spec.replicas.max == 3
    await serve(coordinator, UpOptions(engine="vllm", model="Qwen/Qwen3-4B", name="chat"), gpu_count=1)
    assert [revision.recipe.model.source for revision in fleet.recipes["chat"]] == [
        "hf://Qwen/Qwen3-0.6B",
        "hf://Qwen/Qwen3-4B",
    ]
    assert not fleet.asked("Apply")[-1].create_only


async def test_one_that_fails_is_named_and_the_others_serve(coordinator: Coordinator, fleet: Fleet):
    await serve(coordinator, UpOptions())
    fleet.failing["chat"] = Failure(reason="weights_oom", message="9 GiB do not fit", hint="Use a smaller model.")
    assert await serve(coordinator, VLLM) == (["demo"], "chat: weights_oom: 9 GiB do not fit")


async def test_one_that_takes_too_long_is_named(coordinator: Coordinator, fleet: Fleet):
    fleet.frozen = True
    serving, problem = await serve(coordinator, UpOptions(timeout_seconds=0.1))
    assert serving == []
    assert "demo is not ready" in problem


async def test_the_key_is_made_once_and_again_only_when_it_is_revoked(
    coordinator: Coordinator, fleet: Fleet, tmp_path: Path
):
    file = tmp_path / "api-key"
    first = await local_key(coordinator, file)
    assert await local_key(coordinator, file) == first
    assert file.stat().st_mode & 0o777 == 0o600
    assert [key.name for key in fleet.keys.values()] == ["local"]
    fleet.keys["key1"].revoked_at.GetCurrentTime()
    second = await local_key(coordinator, file)
    assert second != first
    assert file.read_text(encoding="utf-8").strip() == second


async def test_an_engine_that_is_said_to_serve_is_believed_when_it_answers():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        assert await all_answer(Standing(Verdict.READY, endpoints=(url,)))
    assert not await all_answer(Standing(Verdict.READY, endpoints=(url,)))
    assert await all_answer(Standing(Verdict.READY))


async def test_a_gateway_that_is_not_there_does_not_serve():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        assert not await until_served(Address("127.0.0.1", sock.getsockname()[1]), "sk-1", ["demo"], 0.2)
