"""Commands to the real agent: done once, followed over broken sessions, answered from the journal after its death."""

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from fakes.agent_process import AgentProcess, a_demo_replica
from fakes.coordinator import FakeCoordinator, State
from fakes.model_hub import MIB, Hub, a_model, files_of, model_hub
from studio.v1.agent_service_pb2 import (
    CheckGpu,
    Command,
    CommandResult,
    ConnectResponse,
    InstallEngine,
    PausePull,
    PreviewLaunch,
    PullModel,
    ReadModel,
    RemoveEngine,
    RemoveModel,
)
from studio.v1.assignment_pb2 import AssignedReplica
from studio.v1.host_pb2 import CachedModel
from studio.v1.replica_pb2 import StartProgress
from studio_agent.engines.inquiry.installed_flags import flags_of

SOURCE = "hf://lab/tiny"
SECOND = "model-00002-of-00002.safetensors"
PULL = Command(pull_model=PullModel(source=SOURCE))


@pytest.fixture
def hub() -> Iterator[Hub]:
    with model_hub(a_model()) as served:
        yield served


@pytest.fixture
async def agent(tmp_path: Path, coordinator: FakeCoordinator, hub: Hub) -> AsyncIterator[AgentProcess]:
    assert hub.url
    async with AgentProcess(tmp_path, coordinator.address) as process:
        await coordinator.until(lambda: coordinator.connected)
        yield process


def send(coordinator: FakeCoordinator, command: Command, command_id: str, term: int = 1) -> None:
    sent = Command(command_id=command_id, term=term)
    sent.MergeFrom(command)
    coordinator.send(ConnectResponse(command=sent))


async def result_of(coordinator: FakeCoordinator, command_id: str) -> CommandResult:
    def found() -> CommandResult | None:
        return next((one for one in coordinator.results if one.command_id == command_id), None)

    result = await coordinator.until(found)
    assert isinstance(result, CommandResult)
    return result


async def run(coordinator: FakeCoordinator, command: Command, command_id: str) -> CommandResult:
    send(coordinator, command, command_id)
    return await result_of(coordinator, command_id)


def the_model(coordinator: FakeCoordinator) -> CachedModel:
    models = coordinator.observation.models
    return models[0] if models else CachedModel()


def a_replica_of(source: str) -> AssignedReplica:
    replica = a_demo_replica()
    replica.recipe.model.source = source
    return replica


async def test_a_pull_is_told_of_while_it_goes_on_and_answered_once(
    agent: AgentProcess, coordinator: FakeCoordinator, hub: Hub
):
    hub.held[SECOND] = 0.5
    send(coordinator, PULL, "c1")
    total = hub.models["lab/tiny"].size
    half = total - 2 * MIB
    told = await coordinator.until(lambda: [one for one in coordinator.progress if one.bytes_done == half])
    assert (told[0].command_id, told[0].bytes_total, round(told[0].share, 2)) == ("c1", total, 0.75)
    await coordinator.until(lambda: the_model(coordinator).bytes_done == half)
    assert the_model(coordinator).state == CachedModel.STATE_PULLING
    # The session breaks; the pull goes on, and whoever asks again under the same id is told how far it is.
    await coordinator.stop()
    coordinator.progress.clear()
    await coordinator.start()
    await coordinator.until(lambda: coordinator.connected)
    send(coordinator, PULL, "c1")
    await coordinator.until(lambda: any(one.bytes_done == half for one in coordinator.progress))
    hub.go_on.set()
    result = await result_of(coordinator, "c1")
    assert result.ok, result
    await coordinator.until(lambda: the_model(coordinator).state == CachedModel.STATE_COMPLETE)
    assert files_of(Path(the_model(coordinator).path)) == hub.models["lab/tiny"].files
    assert Path(the_model(coordinator).path).is_relative_to(agent.folder / "models")
    await coordinator.until_event("model.complete")
    # A killed agent still knows the answer.
    await agent.kill()
    hub.requests.clear()
    coordinator.results.clear()
    await agent.start()
    await coordinator.until(lambda: coordinator.connected)
    assert await run(coordinator, PULL, "c1") == result
    assert hub.requests == []


async def test_a_pull_that_the_agent_s_death_broke_off_is_partial_and_goes_on(
    agent: AgentProcess, coordinator: FakeCoordinator, hub: Hub
):
    hub.held[SECOND] = 0.5
    send(coordinator, PULL, "c1")
    await coordinator.until(lambda: the_model(coordinator).bytes_done == hub.models["lab/tiny"].size - 2 * MIB)
    await agent.kill()
    hub.held.clear()
    await agent.start()
    await coordinator.until(lambda: the_model(coordinator).state == CachedModel.STATE_PARTIAL)
    assert (await run(coordinator, PULL, "c1")).ok
    assert hub.ranges[SECOND] == [0, 2 * MIB]


async def test_a_replica_s_model_is_fetched_first_and_stays_while_it_is_used(
    agent: AgentProcess, coordinator: FakeCoordinator, hub: Hub
):
    hub.held[SECOND] = 0.5
    coordinator.assign(a_replica_of(SOURCE))
    seen = await coordinator.until_replica("demo-1", lambda one: "6 of 8 MiB" in one.progress.detail)
    assert (seen.state, seen.progress.phase) == (State.STATE_PREPARING, StartProgress.PHASE_DOWNLOAD)
    # A pause makes it wait.
    assert (await run(coordinator, Command(pause_pull=PausePull(source=SOURCE)), "pause")).ok
    await coordinator.until_replica("demo-1", lambda one: "paused" in one.progress.detail)
    assert the_model(coordinator).state == CachedModel.STATE_PAUSED
    hub.held.clear()
    assert (await run(coordinator, PULL, "go on")).ok
    await coordinator.until_state("demo-1", State.STATE_READY)
    refused = await run(coordinator, Command(remove_model=RemoveModel(source=SOURCE)), "remove")
    assert (refused.ok, refused.reason) == (False, "in_use")
    assert "demo-1" in refused.message
    coordinator.assign()
    await coordinator.until_gone("demo-1")
    assert (await run(coordinator, Command(remove_model=RemoveModel(source=SOURCE)), "remove again")).ok
    await coordinator.until(lambda: not coordinator.observation.models)
    assert not any((agent.folder / "models" / "lab--tiny").glob("a*"))


async def test_a_replica_whose_model_is_nowhere_fails_by_name(agent: AgentProcess, coordinator: FakeCoordinator):
    assert agent.pid
    coordinator.assign(a_replica_of("hf://lab/none"))
    failed = await coordinator.until_replica("demo-1", lambda one: one.failure.reason != "")
    assert (failed.failure.reason, failed.failure.retryable) == ("model_missing", False)


def an_environment(agent: AgentProcess, engine: str, version: str) -> Path:
    """What an installation leaves."""
    folder = agent.folder / "engines" / f"{engine}-{version}"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / engine).write_text("#!/bin/sh\nsleep 60\n")
    (folder / "bin" / engine).chmod(0o755)
    fields = {"engine": engine, "version": version, "program": f"bin/{engine}", "disk_bytes": 4096}
    (folder / "studio-environment.json").write_text(json.dumps(fields))
    return folder


async def test_environments_are_listed_and_removed_unless_they_are_used(
    agent: AgentProcess, coordinator: FakeCoordinator
):
    folder = an_environment(agent, "vllm", "0.32.0+cpu")
    await agent.kill()
    await agent.start()
    engines = await coordinator.until(lambda: list(coordinator.observation.engines))
    assert [(one.engine, one.version, one.disk_bytes) for one in engines] == [("vllm", "0.32.0+cpu", 4096)]
    # It is there, so nothing is installed.
    assert (await run(coordinator, Command(install_engine=InstallEngine(engine="vllm")), "install")).ok
    replica = a_replica_of("")
    replica.recipe.engine.name = "vllm"
    replica.recipe.ClearField("args")
    replica.recipe.model.source = f"path://{agent.folder}"
    (agent.folder / "config.json").write_text("{}")
    coordinator.assign(replica)
    await coordinator.until_replica("demo-1", lambda one: one.pid > 0)
    remove = Command(remove_engine=RemoveEngine(engine="vllm"))
    refused = await run(coordinator, remove, "remove")
    assert (refused.reason, folder.exists()) == ("in_use", True)
    coordinator.assign()
    await coordinator.until_gone("demo-1")
    assert (await run(coordinator, remove, "remove again")).ok
    await coordinator.until(lambda: not coordinator.observation.engines)
    assert not folder.exists()
    assert (await run(coordinator, remove, "and again")).reason == "not_found"


async def test_what_cannot_be_done_is_refused_by_name(agent: AgentProcess, coordinator: FakeCoordinator):
    assert agent.pid
    cases = {
        "engine_not_provisioned": Command(install_engine=InstallEngine(engine="none")),
        "model_missing": Command(pull_model=PullModel(source="hf://no-model")),
        "not_found": Command(check_gpu=CheckGpu(uuid="GPU-none")),
        "unknown_command": Command(),
        "too_late": Command(check_gpu=CheckGpu(uuid="GPU-none")),
    }
    cases["too_late"].deadline.FromSeconds(1)
    for reason, command in cases.items():
        refused = await run(coordinator, command, reason)
        assert (refused.ok, refused.reason) == (False, reason)
        assert refused.message
    coordinator.term = 7
    coordinator.assign()
    await coordinator.until(lambda: coordinator.answers)
    send(coordinator, PULL, "old", term=6)
    assert (await result_of(coordinator, "old")).reason == "stale_term"


async def test_a_preview_refuses_what_the_installed_engine_said_it_does_not_take(
    agent: AgentProcess, coordinator: FakeCoordinator
):
    program, model = agent.folder / "llama-server", agent.folder / "tiny.gguf"
    program.write_text("#!/bin/sh\necho '--threads N                             number of CPU threads'\n")
    program.chmod(0o755)
    model.write_bytes(b"GGUF")
    assert await flags_of("llamacpp", (str(program),), agent.folder / "engines") is not None
    replica = AssignedReplica(replica_id="tiny-1", generation=1, model_names=["tiny"])
    replica.recipe.engine.name, replica.recipe.engine.path = "llamacpp", str(program)
    replica.recipe.model.source = f"path://{model}"
    replica.recipe.extra_args["thread"].number_value = 4
    refused = await run(coordinator, Command(preview_launch=PreviewLaunch(replica=replica)), "typo")
    assert (refused.ok, refused.hint) == (False, "Did you mean `threads`?")
    replica.recipe.extra_args["threads"].number_value = replica.recipe.extra_args.pop("thread").number_value
    shown = await run(coordinator, Command(preview_launch=PreviewLaunch(replica=replica)), "right")
    assert list(shown.preview.argv[-2:]) == ["--threads", "4"]


async def test_models_outside_the_hosts_model_directories_are_refused(
    agent: AgentProcess, coordinator: FakeCoordinator, tmp_path_factory: pytest.TempPathFactory
):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "config.json").write_text("{}")
    replica = a_replica_of(f"path://{elsewhere}")
    asked = {
        "to start, as a trial": Command(preview_launch=PreviewLaunch(replica=replica)),
        "what it is": Command(read_model=ReadModel(source=f"path://{elsewhere}")),
    }
    for what, command in asked.items():
        refused = await run(coordinator, command, what)
        assert (refused.ok, refused.reason) == (False, "model_outside"), what
        # The directories that there are; a hint what to do.
        assert str(agent.folder) in refused.message
        assert "--model-root" in refused.hint
    coordinator.assign(replica)
    failed = await coordinator.until_replica("demo-1", lambda one: one.state == State.STATE_FAILED)
    assert (failed.failure.reason, failed.failure.retryable) == ("model_outside", False)


async def test_an_engine_is_installed_from_a_wheelhouse_alone(tmp_path: Path, coordinator: FakeCoordinator):
    """A wheelhouse without the wheels: pip looks nowhere else."""
    wheelhouse = tmp_path / "wheels"
    environment = {"PIP_INDEX_URL": "http://127.0.0.1:1/simple"}
    async with AgentProcess(
        tmp_path, coordinator.address, "--wheelhouse", str(wheelhouse), environment=environment
    ) as agent:
        await coordinator.until(lambda: coordinator.connected)
        install = Command(install_engine=InstallEngine(engine="vllm"))
        refused = await run(coordinator, install, "no folder")
        assert (refused.reason, str(wheelhouse) in refused.message) == ("wheelhouse", True)
        wheelhouse.mkdir()
        send(coordinator, install, "no wheels")
        await coordinator.until(lambda: any("virtual environment" in one.detail for one in coordinator.progress))
        refused = await result_of(coordinator, "no wheels")
        assert refused.reason == "package_missing"
        log = next((agent.folder / "engines").glob("*.log")).read_text()
        assert f"--no-index --find-links {wheelhouse}" in log
        assert "127.0.0.1:1" not in log
    assert not any(wheelhouse.iterdir())
