import json

import pytest
import yaml
from fakes.admin import Fleet
from fakes.cli import Studio
from studio.v1.admin_service_pb2 import StreamLogsResponse, UsageTotal
from studio_coordinator.store.migrations import code_revision

LISTS = ("ps", "hosts", "deployments", "recipes", "keys", "providers", "usage")


@pytest.mark.parametrize("command", LISTS)
def test_every_list_is_a_table_or_data(studio: Studio, manifest: str, command: str):
    studio("apply", "-f", manifest)
    studio("keys", "create", "ci")
    studio("providers", "add", "mini", "openai/gpt-5-mini")
    table = studio(command)
    assert table.code == 0
    as_json = json.loads(studio(command, "-o", "json").out)
    as_yaml = yaml.safe_load(studio(command, "-o", "yaml").out)
    assert isinstance(as_json, list)
    assert len(as_json) == len(as_yaml)
    rows = table.out.splitlines()[1:]
    assert len(rows) == len(as_json)
    wide = studio(command, "-o", "wide")
    assert wide.code == 0
    if rows:
        assert len(wide.out) >= len(table.out)


@pytest.mark.parametrize("command", ["ps", "hosts", "deployments", "recipes", "keys", "providers", "usage"])
def test_an_empty_list_is_empty_for_scripts_and_a_hint_for_people(studio: Studio, fleet: Fleet, command: str):
    fleet.hosts.clear()
    said = studio(command)
    assert (said.code, said.out) == (0, "")
    assert said.err.strip()
    assert json.loads(studio(command, "-o", "json").out) == []


def test_a_noun_by_itself_lists(studio: Studio):
    assert studio("hosts").out == studio("hosts", "list").out
    assert "show" in studio("hosts", "--help").out


def test_hosts_show(studio: Studio, manifest: str):
    studio("apply", "-f", manifest, "--wait")
    said = studio("hosts", "show", "lab-1")
    assert said.out.startswith("lab-1 (host) CONNECTED")
    assert "chat-1  READY" in said.out
    assert "replicas  1" in said.out
    assert json.loads(studio("hosts", "show", "lab-1", "-o", "json").out)["name"] == "lab-1"
    missing = studio("hosts", "show", "lab-9")
    assert missing.code == 3
    assert "lab-1" in missing.err


def test_recipes_show_has_revisions(studio: Studio, fleet: Fleet, manifest: str):
    studio("apply", "-f", manifest)
    said = studio("recipes", "show", "small")
    assert yaml.safe_load(said.out)["resources"] == {"gpu": {"count": 0}}
    assert "small r1" in said.out
    assert json.loads(studio("recipes", "show", "small", "--revision", "1", "-o", "json").out)["revision"] == 1
    assert fleet.asked("GetRecipe")[-1].revision == 1
    assert studio("recipes", "show", "small", "--revision", "9").code == 3


def test_describe_finds_deployments_replicas_and_hosts(studio: Studio, manifest: str):
    studio("apply", "-f", manifest, "--wait")
    assert studio("describe", "chat").out.startswith("chat (deployment) READY")
    replica = studio("describe", "chat-1")
    assert replica.out.startswith("chat-1 (replica) READY")
    assert "exited: died" in replica.out
    assert studio("describe", "lab-1").out.startswith("lab-1 (host)")
    assert json.loads(studio("describe", "chat", "-o", "json").out)["name"] == "chat"
    missing = studio("describe", "chatt")
    assert missing.code == 3
    assert "Did you mean chat" in missing.err


def test_events_are_in_order_and_filtered(studio: Studio, fleet: Fleet):
    fleet.events.reverse()
    said = studio("events")
    assert [line.split()[2] for line in said.out.splitlines()] == ["CONNECTED", "FAILED"]
    assert "exited: died" in said.out
    assert len(studio("events", "--deployment", "chat").out.splitlines()) == 1
    assert len(studio("events", "--after", "1").out.splitlines()) == 1
    assert [one["sequence"] for one in json.loads(studio("events", "-o", "json").out)] == [1, 2]


def test_logs_are_the_bytes_that_the_engine_wrote(studio: Studio, fleet: Fleet, manifest: str):
    studio("apply", "-f", manifest)
    fleet.logs = [
        StreamLogsResponse(replica_id="chat-1", data=b"loading\n"),
        StreamLogsResponse(replica_id="chat-2", data=b"half a li"),
        StreamLogsResponse(replica_id="chat-2", data=b"ne\n"),
    ]
    said = studio("logs", "chat", "--tail", "2")
    assert said.out == "loading\nhalf a line\n"
    assert said.err == "==> chat-1 <==\n==> chat-2 <==\n"
    assert fleet.asked("StreamLogs")[-1].tail_bytes == 2048
    assert studio("logs", "nothing").code == 3


def test_usage_is_grouped_as_asked(studio: Studio, fleet: Fleet):
    fleet.usage = [UsageTotal(key_id="k1", day="2026-01-01", requests=3)]
    said = studio("usage", "--by", "key,day", "--since", "7d")
    assert said.out.splitlines()[0].split()[:2] == ["KEY", "DAY"]
    request = fleet.asked("ListUsage")[-1]
    assert list(request.group_by) == ["key", "day"]
    assert request.since.seconds > 0
    assert studio("usage", "--by", "moon").code == 2
    assert studio("usage", "--since", "yesterday").code == 2


def test_status_and_version(studio: Studio):
    said = studio("status")
    assert f"schema {code_revision()}, leads (term 3)" in said.out
    assert json.loads(studio("status", "-o", "json").out)["term"] == 3
    assert studio("version").out.startswith("studio ")


def test_every_command_has_help_with_examples(studio: Studio):
    for words in (
        *[
            (name,)
            for name in (
                "up",
                "down",
                "apply",
                "ps",
                "describe",
                "logs",
                "events",
                "stop",
                "start",
                "scale",
                "usage",
                "status",
            )
        ],
        *[("hosts", "show"), ("keys", "create"), ("providers", "add"), ("delete", "recipe"), ("recipes", "show")],
    ):
        said = studio(*words, "--help")
        assert said.code == 0
        assert "Examples:\n    studio " in said.out, words


def test_names_complete_from_the_coordinator(studio: Studio, manifest: str, monkeypatch: pytest.MonkeyPatch):
    studio("apply", "-f", manifest, "--wait")
    monkeypatch.setenv("_STUDIO_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "studio describe ch")
    monkeypatch.setenv("COMP_CWORD", "2")
    assert studio().out.split() == ["chat", "chat-1"]


def test_completion_without_a_coordinator_is_silent(studio: Studio, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("STUDIO_COORDINATOR", "127.0.0.1:1")
    monkeypatch.setenv("_STUDIO_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "studio stop ch")
    monkeypatch.setenv("COMP_CWORD", "2")
    said = studio()
    assert (said.out.strip(), said.err) == ("", "")
