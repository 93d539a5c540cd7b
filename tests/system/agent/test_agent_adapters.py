"""Adapters of a running engine: the real agent has the real demo engine load and drop them."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from fakes.agent_process import AgentProcess, a_demo_replica
from fakes.coordinator import FakeCoordinator, State
from fakes.model_hub import Hub, Model, model_hub
from studio.v1.agent_service_pb2 import Command, CommandResult, ConnectResponse, LoadLora, RemoveModel, UnloadLora
from studio.v1.assignment_pb2 import AssignedReplica
from studio.v1.recipe_pb2 import LoraAdapter

ON_THE_HUB = "hf://lab/sql"


@pytest.fixture
def hub() -> Iterator[Hub]:
    adapter = Model("lab/sql", {"adapter_config.json": b"{}", "adapter_model.safetensors": b"\0" * 64})
    with model_hub(adapter) as served:
        yield served


@pytest.fixture
async def agent(tmp_path: Path, coordinator: FakeCoordinator, hub: Hub) -> AsyncIterator[AgentProcess]:
    assert hub.url
    async with AgentProcess(tmp_path, coordinator.address) as process:
        await coordinator.until(lambda: coordinator.connected)
        yield process


def a_replica(*, takes_adapters: bool = True, **demo: object) -> AssignedReplica:
    replica = a_demo_replica(**demo)
    replica.recipe.extra_args["enable-lora"].bool_value = takes_adapters
    return replica


async def run(coordinator: FakeCoordinator, command_id: str, **operation: Any) -> CommandResult:
    coordinator.send(ConnectResponse(command=Command(command_id=command_id, term=1, **operation)))

    def found() -> CommandResult | None:
        return next((one for one in coordinator.results if one.command_id == command_id), None)

    result = await coordinator.until(found)
    assert isinstance(result, CommandResult)
    return result


def loading(name: str, source: str, replica_id: str = "demo-1") -> LoadLora:
    return LoadLora(replica_id=replica_id, adapter=LoraAdapter(name=name, source=source))


def dropping(name: str) -> UnloadLora:
    return UnloadLora(replica_id="demo-1", name=name)


async def models(url: str) -> dict[str, str]:
    async with aiohttp.ClientSession() as http, http.get(f"{url}/v1/models") as response:
        return {model["id"]: model["root"] for model in (await response.json())["data"]}


async def status_of(url: str, model: str) -> int:
    body = {"model": model, "prompt": "hello", "max_tokens": 2}
    async with aiohttp.ClientSession() as http, http.post(f"{url}/v1/completions", json=body) as response:
        return response.status


async def test_an_adapter_is_fetched_loaded_answers_and_is_dropped(agent: AgentProcess, coordinator: FakeCoordinator):
    coordinator.assign(a_replica())
    ready = await coordinator.until_state("demo-1", State.STATE_READY)
    assert await status_of(ready.base_url, "sql") == 404
    loaded = await run(coordinator, "load", load_lora=loading("sql", ON_THE_HUB))
    assert loaded.ok, loaded
    served = await models(ready.base_url)
    folder = Path(served["sql"])
    assert folder.is_relative_to(agent.folder / "models")
    assert (folder / "adapter_model.safetensors").read_bytes() == b"\0" * 64
    assert await status_of(ready.base_url, "sql") == 200
    await coordinator.until_replica("demo-1", lambda one: list(one.loaded_adapters) == ["sql"])
    removed = await run(coordinator, "remove", remove_model=RemoveModel(source=ON_THE_HUB))
    assert (removed.ok, removed.reason) == (False, "in_use")
    # What an engine has, it has whatever becomes of the agent.
    await agent.kill()
    coordinator.observed.clear()
    await agent.start()
    adopted = await coordinator.until_state("demo-1", State.STATE_READY)
    assert (adopted.pid, list(adopted.loaded_adapters)) == (ready.pid, ["sql"])
    event = await coordinator.until_event("lora.loaded")
    assert (event.event.replica, event.event.attributes["adapter"]) == ("demo-1", "sql")

    again = await run(coordinator, "again", load_lora=loading("sql", ON_THE_HUB))
    assert (again.ok, again.reason) == (False, "adapter_refused")
    assert "already been loaded" in again.message

    dropped = await run(coordinator, "drop", unload_lora=dropping("sql"))
    assert dropped.ok, dropped
    assert await status_of(ready.base_url, "sql") == 404
    await coordinator.until_replica("demo-1", lambda one: not one.loaded_adapters)
    assert (await run(coordinator, "drop again", unload_lora=dropping("sql"))).reason == "adapter_refused"
    now = coordinator.observed["demo-1"]
    assert (now.state, now.pid) == (State.STATE_READY, ready.pid)


@pytest.mark.usefixtures("agent")
async def test_an_adapter_in_a_directory_is_taken_as_it_is(coordinator: FakeCoordinator, tmp_path: Path):
    folder = tmp_path / "adapter"
    folder.mkdir()
    coordinator.assign(a_replica())
    ready = await coordinator.until_state("demo-1", State.STATE_READY)
    refused = await run(coordinator, "no adapter", load_lora=loading("sql", f"path://{folder}"))
    assert (refused.reason, "adapter_config.json" in refused.message) == ("model_missing", True)
    (folder / "adapter_config.json").write_text("{}")
    assert (await run(coordinator, "load", load_lora=loading("sql", f"path://{folder}"))).ok
    assert (await models(ready.base_url))["sql"] == str(folder)


@pytest.mark.usefixtures("agent")
async def test_what_cannot_take_an_adapter_is_refused_with_the_reason(coordinator: FakeCoordinator, hub: Hub):
    unknown = await run(coordinator, "unknown", load_lora=loading("sql", ON_THE_HUB))
    assert unknown.reason == "not_found"
    coordinator.assign(a_replica(takes_adapters=False))
    await coordinator.until_state("demo-1", State.STATE_READY)
    without = await run(coordinator, "without", load_lora=loading("sql", ON_THE_HUB))
    assert (without.reason, "without adapters" in without.message) == ("invalid", True)
    assert "enable-lora" in without.hint
    assert (await run(coordinator, "drop", unload_lora=dropping("sql"))).reason == "invalid"

    coordinator.assign(a_replica(generation=2))
    await coordinator.until_replica("demo-1", lambda one: one.generation == 2 and one.state == State.STATE_READY)
    taken = await run(coordinator, "taken", load_lora=loading("demo", ON_THE_HUB))
    assert (taken.reason, "itself" in taken.message) == ("invalid", True)

    coordinator.assign(a_replica(generation=3, load_seconds=600.0))
    await coordinator.until_state("demo-1", State.STATE_STARTING)
    early = await run(coordinator, "early", load_lora=loading("sql", ON_THE_HUB))
    assert (early.reason, "STARTING" in early.message) == ("refused_by_safety", True)
    nameless = await run(coordinator, "nameless", load_lora=loading("", ON_THE_HUB))
    assert nameless.reason == "invalid"
    # Nothing was fetched for any of them.
    assert hub.requests == []


@pytest.mark.usefixtures("agent")
async def test_an_engine_that_cannot_is_named(coordinator: FakeCoordinator, tmp_path: Path):
    replica = a_replica()
    replica.recipe.engine.name = "llamacpp"
    replica.recipe.engine.path = str(tmp_path / "none")
    coordinator.assign(replica)
    await coordinator.until_replica("demo-1", lambda one: one.failure.reason != "")
    refused = await run(coordinator, "load", load_lora=loading("sql", ON_THE_HUB))
    assert (refused.reason, "llamacpp" in refused.message) == ("invalid", True)
