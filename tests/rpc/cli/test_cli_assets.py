"""``studio engines`` and ``studio models`` against a coordinator in memory."""

import json

import pytest
from fakes.admin import Fleet
from fakes.cli import Studio
from studio.v1.agent_service_pb2 import Command, CommandProgress, CommandResult
from studio.v1.host_pb2 import CachedModel, EngineEnvironment, Host
from studio_cli import wording

MIB = 2**20


@pytest.fixture(autouse=True)
def stocked(fleet: Fleet) -> None:
    host = fleet.hosts[0]
    host.facts.engines.add(engine="vllm", version="0.33.0", path="/e/vllm-0.33.0/bin/vllm", disk_bytes=9 * 2**30)
    host.models.extend(
        [
            CachedModel(
                source="hf://Qwen/Qwen3-8B",
                revision="c" * 40,
                state=CachedModel.STATE_COMPLETE,
                bytes_done=16 * 2**30,
                bytes_total=16 * 2**30,
                path="/m/Qwen--Qwen3-8B/c",
            ),
            CachedModel(source="hf://lab/tiny", revision="main", state=CachedModel.STATE_PULLING),
            CachedModel(
                source="hf://lab/half",
                revision="d" * 40,
                state=CachedModel.STATE_PAUSED,
                bytes_done=MIB,
                bytes_total=2 * MIB,
            ),
        ]
    )


def test_lists(studio: Studio, fleet: Fleet):
    fleet.hosts.append(Host(id="h2", name="lab-2"))
    fleet.hosts[1].facts.engines.append(EngineEnvironment(engine="vllm", version="0.32.0+cpu"))
    assert [line.split() for line in studio("engines").out.splitlines()] == [
        ["ENGINE", "VERSION", "HOST", "DISK"],
        ["vllm", "0.33.0", "lab-1", "9", "GiB"],
        ["vllm", "0.32.0+cpu", "lab-2", wording.NOTHING],
    ]
    assert [line.split() for line in studio("models", "list", "--host", "lab-1").out.splitlines()] == [
        ["MODEL", "REVISION", "HOST", "STATE", "DISK", "SIZE"],
        ["Qwen/Qwen3-8B", "cccccccccccc", "lab-1", "COMPLETE", "16", "GiB", "16", "GiB"],
        ["lab/tiny", "main", "lab-1", "PULLING", "0", "B", wording.NOTHING],
        ["lab/half", "dddddddddddd", "lab-1", "PAUSED", "50", "%", "1", "MiB", "2", "MiB"],
    ]
    assert "no model is cached" in studio("models", "list", "--host", "lab-2").err
    assert studio("models", "list", "--host", "none").code == 3


def test_lists_for_scripts_name_the_host(studio: Studio):
    (engine,) = json.loads(studio("engines", "-o", "json").out)
    assert engine == {
        "host": "lab-1",
        "engine": "vllm",
        "version": "0.33.0",
        "path": "/e/vllm-0.33.0/bin/vllm",
        "disk_bytes": 9 * 2**30,
    }
    models = json.loads(studio("models", "-o", "json").out)
    assert [(one["host"], one["state"], one["bytes_done"]) for one in models] == [
        ("lab-1", "COMPLETE", 16 * 2**30),
        ("lab-1", "PULLING", 0),
        ("lab-1", "PAUSED", MIB),
    ]


def test_a_pull_is_followed_to_its_end(studio: Studio, fleet: Fleet):
    fleet.command_news = [
        CommandProgress(share=0.5, bytes_done=MIB, bytes_total=2 * MIB),
        CommandResult(ok=True, message="hf://lab/tiny is complete in /m"),
    ]
    said = studio("models", "pull", "lab/tiny", "--revision", "main")
    assert (said.code, said.out) == (0, "✓ pull lab/tiny    hf://lab/tiny is complete in /m\n")
    (request,) = fleet.asked("RunCommand")
    assert request.host == "lab-1"
    assert (request.command.pull_model.source, request.command.pull_model.revision) == ("hf://lab/tiny", "main")


@pytest.mark.parametrize(
    ("reason", "code"),
    [("model_missing", 3), ("in_use", 5), ("engine_version", 2), ("disk", 1), ("hub_unavailable", 1)],
)
def test_a_failure_is_told_with_its_hint(studio: Studio, fleet: Fleet, reason: str, code: int):
    fleet.command_news = [CommandResult(reason=reason, message="it cannot be had", hint="Do this.")]
    said = studio("models", "pull", "lab/tiny")
    assert said.code == code
    assert said.err == "Error: it cannot be had\nDo this.\n"
    assert said.out.startswith("✗ pull lab/tiny")


@pytest.mark.parametrize(
    ("words", "operation"),
    [
        (("engines", "install", "vllm", "0.33.0"), "install_engine"),
        (("engines", "remove", "vllm", "--yes"), "remove_engine"),
        (("models", "pause", "hf://lab/tiny"), "pause_pull"),
        (("models", "cancel", "lab/tiny"), "cancel_pull"),
        (("models", "rm", "lab/tiny", "--yes", "--host", "lab-1"), "remove_model"),
    ],
)
def test_each_command_asks_for_its_operation(studio: Studio, fleet: Fleet, words: tuple[str, ...], operation: str):
    fleet.command_news = [CommandResult(ok=True, message="done")]
    assert studio(*words).code == 0
    (request,) = fleet.asked("RunCommand")
    assert isinstance(request.command, Command)
    assert request.command.WhichOneof("operation") == operation
    asked = getattr(request.command, operation)
    assert "hf://lab/tiny" in str(asked) or "vllm" in str(asked)


def test_nothing_is_removed_without_being_sure(studio: Studio, fleet: Fleet):
    for words in (("engines", "remove", "vllm"), ("models", "rm", "lab/tiny")):
        assert studio(*words).code == 5
    assert fleet.asked("RunCommand") == []


def test_of_several_hosts_one_is_named(studio: Studio, fleet: Fleet):
    fleet.hosts.append(Host(id="h2", name="lab-2"))
    said = studio("models", "pull", "lab/tiny")
    assert said.code == 2
    assert "lab-1, lab-2" in said.err


def test_a_stream_without_a_result_is_no_success(studio: Studio, fleet: Fleet):
    fleet.command_news = [CommandProgress(detail="begun")]
    assert studio("models", "pull", "lab/tiny").code == 1
