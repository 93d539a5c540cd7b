from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.admin import Fleet, admin_server
from fakes.cli import Said, Studio
from studio.v1.event_pb2 import Event
from studio.v1.host_pb2 import Host
from studio_cli.__main__ import run

RECIPE = """\
kind: Recipe
name: small
engine: {name: demo}
resources: {gpu: {count: 0}}
---
kind: Deployment
name: chat
recipe: small
"""


@pytest.fixture
def fleet() -> Fleet:
    host = Host(id="h1", name="lab-1", state=Host.STATE_CONNECTED)
    host.facts.cpu_count, host.facts.memory_bytes = 16, 62 * 2**30
    events = [
        Event(sequence=1, kind="host.connected", host="lab-1", message="host lab-1 connected"),
        Event(
            sequence=2,
            kind="replica.failed",
            replica="chat-1",
            deployment="chat",
            host="lab-1",
            reason="exited",
            message="died",
        ),
    ]
    for event in events:
        event.at.GetCurrentTime()
    return Fleet(hosts=[host], events=events)


@pytest.fixture
def studio(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Studio]:
    """Type a command against a coordinator that knows ``fleet``."""
    monkeypatch.setattr("studio_cli.waiting.POLL_SECONDS", 0.02)
    monkeypatch.setenv("STUDIO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    with admin_server(fleet) as address:
        monkeypatch.setenv("STUDIO_COORDINATOR", address)

        def type_in(*words: str) -> Said:
            capfd.readouterr()
            code = run(words)
            said = capfd.readouterr()
            return Said(code, said.out, said.err)

        yield type_in


@pytest.fixture
def manifest(tmp_path: Path) -> str:
    file = tmp_path / "recipe.yaml"
    file.write_text(RECIPE, encoding="utf-8")
    return str(file)
