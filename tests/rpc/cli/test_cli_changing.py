import json
import os
import socket
from pathlib import Path

import pytest
from fakes.admin import Fleet
from fakes.cli import Studio
from studio.v1.deployment_pb2 import Deployment
from studio.v1.replica_pb2 import Failure, Replica
from studio_runtime.errors import ConflictError, OverloadedError, SafetyError, UnavailableError


def test_apply_on_a_pipe_does_not_wait(studio: Studio, fleet: Fleet, manifest: str):
    said = studio("apply", "-f", manifest)
    assert said.code == 0
    assert said.out.splitlines() == ["recipe small created (r1)", "deployment chat created"]
    assert not fleet.asked("ListReplicas")
    again = studio("apply", "-f", manifest)
    assert again.out.splitlines() == ["recipe small unchanged (r1)", "deployment chat unchanged"]


def test_each_apply_has_a_key_of_its_own_a_trace_and_an_actor(studio: Studio, fleet: Fleet, manifest: str):
    studio("apply", "-f", manifest)
    studio("apply", "-f", manifest)
    first, second = [call for call in fleet.calls if call.method == "Apply"]
    assert first.request.idempotency_key
    assert first.request.idempotency_key != second.request.idempotency_key
    assert first.request.source_name == manifest
    assert first.metadata["studio-actor"].endswith("@" + socket.gethostname())
    version, trace, span, _ = first.metadata["traceparent"].split("-")
    assert (version, len(trace), len(span)) == ("00", 32, 16)
    assert trace != second.metadata["traceparent"].split("-")[1]


def test_apply_wait_prints_progress_until_it_serves(studio: Studio, manifest: str):
    said = studio("apply", "-f", manifest, "--wait")
    assert said.code == 0
    assert "ready on lab-1" in said.out.splitlines()[-1]


def test_apply_waits_for_deployments_that_follow_a_changed_recipe(
    studio: Studio, fleet: Fleet, manifest: str, tmp_path: Path
):
    studio("apply", "-f", manifest, "--wait")
    changed = tmp_path / "recipe-only.yaml"
    changed.write_text("kind: Recipe\nname: small\nengine: {name: demo}\nenv: {A: '1'}\n", encoding="utf-8")
    said = studio("apply", "-f", str(changed), "--wait")
    assert said.out.splitlines()[0] == "recipe small changed (r2)"
    assert "ready on lab-1" in said.out
    assert fleet.replicas["chat-1"].recipe_revision == 2


def test_apply_tells_why_a_start_failed(studio: Studio, fleet: Fleet, manifest: str):
    fleet.failing["chat"] = Failure(reason="weights_oom", message="9 GiB do not fit", hint="Use a smaller model.")
    said = studio("apply", "-f", manifest, "--wait")
    assert said.code == 1
    assert "chat: weights_oom: 9 GiB do not fit" in said.err
    assert "Use a smaller model." in said.err
    assert "studio describe" in said.err


def test_apply_gives_up_waiting_after_the_timeout(studio: Studio, fleet: Fleet, manifest: str):
    fleet.frozen = True
    said = studio("apply", "-f", manifest, "--wait", "--timeout", "1s")
    assert said.code == 1
    assert "chat is not ready after 1s" in said.err


def test_apply_outlasts_a_coordinator_that_is_away(studio: Studio, fleet: Fleet, manifest: str):
    fleet.refuse("ListReplicas", UnavailableError("the database does not answer"))
    assert studio("apply", "-f", manifest, "--wait").code == 0


def test_apply_dry_run_changes_nothing(studio: Studio, fleet: Fleet, manifest: str):
    said = studio("apply", "-f", manifest, "--dry-run", "--wait")
    assert said.code == 0
    assert "dry run" in said.out
    assert not fleet.deployments


def test_apply_data_is_all_that_goes_to_standard_output(studio: Studio, manifest: str):
    said = studio("apply", "-f", manifest, "-o", "json", "--wait")
    assert [one["outcome"] for one in json.loads(said.out)] == ["CREATED", "CREATED"]
    assert "ready on lab-1" in said.err


def test_apply_reads_standard_input(studio: Studio, fleet: Fleet, manifest: str, monkeypatch: pytest.MonkeyPatch):
    with Path(manifest).open(encoding="utf-8") as file:
        monkeypatch.setattr("sys.stdin", file)
        assert studio("apply", "-f", "-").code == 0
    assert fleet.asked("Apply")[0].source_name == "standard input"


def test_a_malformed_manifest_tells_every_problem_at_once(studio: Studio, fleet: Fleet, tmp_path: Path):
    broken = tmp_path / "broken.yaml"
    broken.write_text("engine: {name: demo}\n---\nkind: Deployment\n", encoding="utf-8")
    said = studio("apply", "-f", str(broken))
    assert said.code == 2
    assert said.err.count("is missing") == 3
    assert "document 1, line 1, kind: is missing" in said.err
    assert "document 2, line 1, name: is missing" in said.err
    assert not fleet.recipes


def test_a_manifest_that_cannot_be_read(studio: Studio, fleet: Fleet, tmp_path: Path):
    assert studio("apply", "-f", str(tmp_path / "absent.yaml")).code == 2
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9")
    assert "not UTF-8" in studio("apply", "-f", str(tmp_path / "latin.yaml")).err
    assert not fleet.calls


def test_stop_waits_until_nothing_is_left_and_start_serves_again(studio: Studio, fleet: Fleet, manifest: str):
    studio("apply", "-f", manifest, "--wait")
    said = studio("stop", "chat")
    assert said.code == 0
    assert "no replica is left" in said.out
    assert not fleet.replicas
    assert studio("start", "chat", "--wait").code == 0
    assert fleet.replicas["chat-1"].state == Replica.STATE_READY


def test_stop_no_wait_returns_at_once(studio: Studio, fleet: Fleet, manifest: str):
    studio("apply", "-f", manifest, "--wait")
    fleet.frozen = True
    assert studio("stop", "chat", "--no-wait").code == 0
    assert fleet.deployments["chat"].stopped


def test_scale(studio: Studio, fleet: Fleet, manifest: str):
    studio("apply", "-f", manifest, "--wait")
    assert studio("scale", "chat", "2", "--wait").code == 0
    assert len(fleet.replicas) == 2
    assert studio("scale", "chat", "3").out == "chat is to have 3 replicas\n"
    assert studio("scale", "chat", "--", "-1").code == 2


def test_nothing_is_deleted_without_being_sure(studio: Studio, fleet: Fleet, manifest: str):
    studio("apply", "-f", manifest)
    refused = studio("delete", "deployment", "chat")
    assert refused.code == 5
    assert "--yes" in refused.err
    assert "chat" in fleet.deployments
    in_use = studio("delete", "recipe", "small", "--yes")
    assert in_use.code == 4
    assert "used by chat" in in_use.err
    assert studio("delete", "deployment", "chat", "--yes").code == 0
    assert studio("delete", "recipe", "small", "-y").code == 0
    assert not fleet.recipes


def test_on_a_terminal_the_name_is_typed_again(
    studio: Studio, fleet: Fleet, manifest: str, monkeypatch: pytest.MonkeyPatch
):
    studio("apply", "-f", manifest)
    master, slave = os.openpty()
    with open(slave, encoding="utf-8", closefd=True) as terminal:  # noqa: PTH123 - a descriptor, not a path
        monkeypatch.setattr("sys.stdin", terminal)
        os.write(master, b"chap\n")
        assert studio("delete", "deployment", "chat").code == 5
        assert "chat" in fleet.deployments
        os.write(master, b"chat\n")
        assert studio("delete", "deployment", "chat").code == 0
    os.close(master)
    assert not fleet.deployments


def test_keys(studio: Studio, fleet: Fleet):
    said = studio("keys", "create", "alice", "--model", "chat", "--model", "embed", "--expires", "30d")
    assert said.out == "sk-key1-0123456789abcdef\n"
    request = fleet.asked("CreateKey")[0]
    assert list(request.models) == ["chat", "embed"]
    assert request.HasField("expires_at")
    assert request.idempotency_key
    data = json.loads(studio("keys", "create", "bob", "-o", "json").out)
    assert data["secret"].startswith("sk-key2")
    assert data["key"]["name"] == "bob"
    assert studio("keys", "revoke", "key1").code == 0
    assert "revoked" in studio("keys").out
    assert studio("keys", "revoke", "key9").code == 3


def test_providers(studio: Studio, fleet: Fleet, manifest: str):
    assert studio("providers", "add", "mini", "openai/gpt-5-mini", "--key-env", "OPENAI_API_KEY").code == 0
    assert fleet.providers["mini"].api_key_env == "OPENAI_API_KEY"
    studio("apply", "-f", manifest)
    assert studio("providers", "add", "chat", "openai/gpt-5-mini").code == 4
    assert studio("providers", "remove", "mini").code == 0
    assert studio("providers", "remove", "mini").code == 3


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConflictError("deployment chat changed meanwhile", "Look again."), 4),
        (SafetyError("that would stop more than half of the fleet", "Say so."), 5),
        (UnavailableError("the database does not answer", "Wait."), 1),
        (OverloadedError("too many applies", "Wait."), 1),
    ],
)
def test_a_refusal_is_told_with_what_to_do(studio: Studio, fleet: Fleet, error: Exception, code: int):
    fleet.refuse("StopDeployment", error)
    said = studio("stop", "chat")
    assert said.code == code
    assert said.err == f"Error: {error.args[0]}\n{error.hint}\n"
    assert said.out == ""


@pytest.mark.parametrize(
    "words", [("stop", "nothing"), ("start", "nothing"), ("scale", "nothing", "1"), ("deployments", "show", "nothing")]
)
def test_what_is_not_there_is_3(studio: Studio, words: tuple[str, ...]):
    said = studio(*words)
    assert said.code == 3
    assert "nothing" in said.err


@pytest.mark.parametrize(
    "words",
    [("frobnicate",), ("scale", "chat", "many"), ("ps", "-o", "xml"), ("apply",), ("stop", "a", "--timeout", "soon")],
)
def test_wrong_usage_is_2(studio: Studio, fleet: Fleet, words: tuple[str, ...]):
    fleet.deployments["a"] = Deployment(name="a")
    said = studio(*words)
    assert said.code == 2
    assert "Error" in said.err


def test_no_coordinator_is_6_and_says_where_and_what_to_do(studio: Studio):
    said = studio("ps", "--coordinator", "127.0.0.1:1")
    assert said.code == 6
    assert said.err == (
        "Error: cannot reach the coordinator at 127.0.0.1:1: is it running?\n"
        "Start it with `studio up`, or name another one with --coordinator HOST:PORT. "
        "One that serves with TLS is called at its --admin-listen, with STUDIO_CA_FILE naming its authority.\n"
    )


def test_the_next_address_is_tried(studio: Studio, monkeypatch: pytest.MonkeyPatch):
    there = os.environ["STUDIO_COORDINATOR"]
    assert studio("hosts", "--coordinator", f"127.0.0.1:1,{there}").code == 0
    monkeypatch.setenv("STUDIO_COORDINATOR", f"127.0.0.1:1,{there}")
    assert studio("hosts").code == 0


def test_a_context_names_a_coordinator(studio: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "config" / "vllm-studio" / "config.toml"
    file.parent.mkdir(parents=True)
    there = os.environ.get("STUDIO_COORDINATOR")
    file.write_text(f'[contexts.lab]\ncoordinator = "{there}"\n', encoding="utf-8")
    monkeypatch.delenv("STUDIO_COORDINATOR")
    assert studio("hosts", "--context", "lab").code == 0
    unknown = studio("hosts", "--context", "prod")
    assert unknown.code == 2
    assert "lab" in unknown.err


def test_a_coordinator_that_does_not_answer_is_6(studio: Studio, fleet: Fleet, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("studio_cli.coordinator.CALL_SECONDS", 0.3)
    fleet.lock.acquire()
    try:
        said = studio("status")
    finally:
        fleet.lock.release()
    assert said.code == 6
    assert "did not answer within" in said.err
