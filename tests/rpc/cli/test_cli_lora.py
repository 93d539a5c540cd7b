"""``studio lora`` against a coordinator in memory."""

import pytest
from fakes.admin import Fleet
from fakes.cli import Studio
from studio.v1.agent_service_pb2 import CommandResult
from studio.v1.host_pb2 import Host
from studio.v1.replica_pb2 import Replica


@pytest.fixture(autouse=True)
def replicas(fleet: Fleet) -> None:
    fleet.frozen = True
    fleet.hosts.append(Host(id="h2", name="lab-2", state=Host.STATE_CONNECTED))
    fleet.replicas["chat-1"] = Replica(id="chat-1", deployment="chat", host_id="h2", host_name="lab-2")
    fleet.replicas["chat-2"] = Replica(id="chat-2", deployment="chat")


@pytest.mark.parametrize(
    ("typed", "source"), [("lab/sql", "hf://lab/sql"), ("path:///adapters/sql", "path:///adapters/sql")]
)
def test_an_adapter_is_loaded_on_the_replica_s_host(studio: Studio, fleet: Fleet, typed: str, source: str):
    fleet.command_news = [CommandResult(ok=True, message="chat-1 answers to sql until its engine ends")]
    said = studio("lora", "load", "chat-1", "sql", typed, "--revision", "main")
    assert (said.code, said.out.split(maxsplit=3)) == (
        0,
        ["✓", "load", "sql", "chat-1 answers to sql until its engine ends\n"],
    )
    (request,) = fleet.asked("RunCommand")
    wanted = request.command.load_lora
    assert (request.host, wanted.replica_id) == ("lab-2", "chat-1")
    assert (wanted.adapter.name, wanted.adapter.source, wanted.adapter.revision) == ("sql", source, "main")


def test_an_adapter_is_dropped(studio: Studio, fleet: Fleet):
    fleet.command_news = [CommandResult(ok=True, message="done")]
    assert studio("lora", "unload", "chat-1", "sql").code == 0
    (request,) = fleet.asked("RunCommand")
    assert (request.host, request.command.unload_lora.replica_id, request.command.unload_lora.name) == (
        "lab-2",
        "chat-1",
        "sql",
    )


@pytest.mark.parametrize(("reason", "code"), [("invalid", 2), ("refused_by_safety", 5), ("adapter_refused", 1)])
def test_a_refusal_is_told_with_its_hint(studio: Studio, fleet: Fleet, reason: str, code: int):
    fleet.command_news = [CommandResult(reason=reason, message="it takes none", hint="Do this.")]
    said = studio("lora", "unload", "chat-1", "sql")
    assert (said.code, said.err) == (code, "Error: it takes none\nDo this.\n")


@pytest.mark.parametrize(("replica", "told"), [("chat-9", "chat-1, chat-2"), ("chat-2", "no host yet")])
def test_a_replica_that_is_nowhere_is_asked_nothing(studio: Studio, fleet: Fleet, replica: str, told: str):
    said = studio("lora", "unload", replica, "sql")
    assert said.code == 3
    assert told in said.err
    assert fleet.asked("RunCommand") == []
