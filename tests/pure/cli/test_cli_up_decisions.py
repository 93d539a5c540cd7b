import json
import signal
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from studio.v1.recipe_pb2 import Recipe
from studio.v1.route_pb2 import ApiKey
from studio_cli.up import child, up_file
from studio_cli.up.first_recipe import first_name, is_as_asked, manifest
from studio_cli.up.local_key import is_valid
from studio_cli.up.log_tail import log_tail
from studio_cli.up.options import UpOptions, arguments_of
from studio_cli.up.pace import LONGEST_DELAY_SECONDS, Pace
from studio_cli.up.preflight import check_options
from studio_cli.up.readiness import PostmasterFile, ReadyFile
from studio_cli.up.roles import Role, roles_of
from studio_cli.up.welcome import curl_line
from studio_runtime.errors import InvalidError
from studio_runtime.settings import Home

HOME = Home(Path("/home"))


def by_name(options: UpOptions) -> dict[str, Role]:
    return {role.name: role for role in roles_of(HOME, options, "lab-1", python="python")}


def test_roles_in_the_order_of_their_start():
    roles = by_name(UpOptions(gateway_port=1, coordinator_port=2))
    assert list(roles) == ["postgres", "coordinator", "agent", "gateway"]
    assert roles["postgres"].argv == ("python", "-m", "studio_coordinator", "postgres", "--data-dir", "/home/pg")
    assert roles["postgres"].stop_signal is signal.SIGINT
    assert " ".join(roles["coordinator"].argv) == (
        "python -m studio_coordinator serve --listen 127.0.0.1:2 --state-dir /home/coordinator "
        "--require-tokens --embedded-data-dir /home/pg --metrics 127.0.0.1:0 --ready-file /home/run/coordinator.json"
    )
    assert " ".join(roles["agent"].argv) == (
        "python -m studio_agent run --coordinator 127.0.0.1:2 --state-dir /home/agent --engines-dir /home/engines --model-root / "
        "--token-file /home/coordinator/local-token --host-name lab-1 --metrics 127.0.0.1:0 --ready-file /home/run/agent.json"
    )
    assert roles["agent"].epilogue == ("python", "-m", "studio_agent", "stop-engines", "--state-dir", "/home/agent")
    assert " ".join(roles["gateway"].argv) == (
        "python -m studio_gateway --listen 127.0.0.1:1 --coordinator 127.0.0.1:2 --state-dir /home/gateway "
        "--token-file /home/coordinator/local-token --metrics 127.0.0.1:0 --ready-file /home/run/gateway.json"
    )


def test_an_own_database_takes_the_place_of_the_embedded_one_and_its_url_is_in_no_command_line():
    roles = by_name(UpOptions(database_url="postgresql://user:secret@db/studio"))
    assert "postgres" not in roles
    assert "--embedded-data-dir" not in roles["coordinator"].argv
    assert not any("secret" in word for role in roles.values() for word in role.argv)


@given(st.lists(st.floats(0, 29), min_size=1, max_size=20))
def test_quick_deaths_slow_the_restarts_down_to_a_limit(times: list[float]):
    pace, delays = Pace(), []
    for ran in times:
        pace = pace.after_death(ran)
        delays.append(pace.delay_seconds)
    assert delays[0] == 0.2
    assert delays == sorted(delays)
    assert max(delays) <= LONGEST_DELAY_SECONDS
    assert pace.hopeless == (len(times) >= 3)


def test_a_role_that_was_well_for_a_while_begins_anew():
    pace = Pace(deaths=7).after_death(31)
    assert pace.delay_seconds == 0.2
    assert not pace.hopeless


def test_the_demo_recipe_needs_no_gpu():
    recipe, deployment = yaml.safe_load_all(manifest(UpOptions(), gpu_count=8))
    assert recipe["kind"] == "Recipe"
    assert recipe["engine"] == {"name": "demo"}
    assert recipe["resources"] == {"gpu": {"count": 0}}
    assert deployment == {"kind": "Deployment", "name": "demo", "recipe": "demo", "replicas": {"min": 1, "max": 1}}


def test_a_model_of_a_hub_on_gpus_and_one_of_a_folder_on_a_cpu(tmp_path: Path):
    recipe, _ = yaml.safe_load_all(manifest(UpOptions(engine="vllm", model="Qwen/Qwen3-0.6B"), gpu_count=1))
    assert recipe["name"] == "Qwen3-0.6B"
    assert recipe["model"] == {"source": "hf://Qwen/Qwen3-0.6B"}
    assert recipe["args"] == {}
    assert recipe["resources"] == {"gpu": {"count": 1}}
    options = UpOptions(engine="vllm", model=str(tmp_path), engine_path="/opt/vllm", name="chat")
    recipe, deployment = yaml.safe_load_all(manifest(options, gpu_count=0))
    assert recipe["name"] == deployment["name"] == "chat"
    assert recipe["model"] == {"source": f"path://{tmp_path}"}
    assert recipe["engine"] == {"name": "vllm", "path": "/opt/vllm"}
    assert recipe["args"] == {"enforce_eager": True, "kv_cache_memory": "1GiB"}
    assert recipe["resources"] == {"gpu": {"count": 0}}


@given(st.text(max_size=100))
def test_every_model_gives_a_name_that_a_manifest_takes(model: str):
    name = first_name(UpOptions(engine="vllm", model=model))
    assert 1 <= len(name) <= 63
    assert all(letter.isascii() and (letter.isalnum() or letter in "._-") for letter in name)
    assert name[0].isalnum()


def test_what_is_there_already_is_recognised():
    options = UpOptions(engine="vllm", model="a/b")
    present = Recipe(engine={"name": "vllm"}, model={"source": "hf://a/b"}, args={"max_model_len": {"value": 4096}})
    assert is_as_asked(present, options)
    assert not is_as_asked(present, UpOptions(engine="vllm", model="a/c"))
    assert not is_as_asked(present, UpOptions(engine="vllm", model="a/b", engine_path="/opt/vllm"))
    assert is_as_asked(Recipe(engine={"name": "demo"}), UpOptions(name="other"))


def test_options_survive_being_typed_again():
    options = UpOptions(gateway_port=1, coordinator_port=2, engine="vllm", model="a/b", name="c", timeout_seconds=9.0)
    assert arguments_of(options) == [
        *("--gateway-port", "1", "--coordinator-port", "2", "--timeout", "9.0"),
        *("--engine", "vllm", "--model", "a/b", "--name", "c"),
    ]
    assert "secret" not in " ".join(arguments_of(UpOptions(database_url="secret")))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (UpOptions(engine="vlm", model="a/b"), "no engine 'vlm'"),
        (UpOptions(engine="vllm"), "needs a model"),
        (UpOptions(model="a/b"), "needs an engine"),
        (UpOptions(engine="vllm", model="/no/such/model"), "does not exist"),
        (UpOptions(engine="vllm", model="./no-such-model"), "does not exist"),
        (UpOptions(engine="vllm", model="a/b", engine_path="/no/such/vllm"), "does not exist"),
        (UpOptions(gateway_port=1, coordinator_port=1), "both have port 1"),
        (UpOptions(name="no spaces please"), "cannot be a name"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_starts(options: UpOptions, said: str):
    with pytest.raises(InvalidError, match=said):
        check_options(options)


def test_a_folder_without_a_model_is_refused(tmp_path: Path):
    with pytest.raises(InvalidError, match=r"no config\.json"):
        check_options(UpOptions(engine="vllm", model=str(tmp_path)))
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    check_options(UpOptions(engine="vllm", model=str(tmp_path)))


def test_a_ready_file_is_believed_only_of_the_process_that_was_started(tmp_path: Path):
    ready = ReadyFile(tmp_path / "r.json")
    assert ready.facts(7) is None
    ready.path.write_text('{"pid": 7, "addr', encoding="utf-8")
    assert ready.facts(7) is None
    ready.path.write_text(json.dumps({"pid": 7, "metrics": "m"}), encoding="utf-8")
    assert ready.facts(8) is None
    assert ready.facts(7) == {"pid": 7, "metrics": "m"}
    ready.clear()
    assert ready.facts(7) is None


def test_postgres_is_ready_when_its_own_file_says_so(tmp_path: Path):
    postmaster = PostmasterFile(tmp_path / "postmaster.pid")
    assert postmaster.facts(7) is None
    lines = ["7", "/pg", "1700000000", "5432", "/run", "", "  1234  5678"]
    postmaster.path.write_text("\n".join([*lines, "starting"]), encoding="utf-8")
    assert postmaster.facts(7) is None
    postmaster.path.write_text("\n".join([*lines, "ready   "]), encoding="utf-8")
    assert postmaster.facts(7) == {}
    assert postmaster.facts(8) is None


def test_up_json_names_every_role():
    outcome = up_file.Outcome("sk-1", ["demo"])
    document = up_file.content(
        outcome, gateway="127.0.0.1:4000", coordinator="127.0.0.1:7070", pids={"agent": 3}, metrics={}, supervisor=1
    )
    assert document["pids"] == {"postgres": None, "coordinator": None, "agent": 3, "gateway": None}
    assert document["gateway_url"] == "http://127.0.0.1:4000"
    assert document["problem"] is None


def test_a_kept_key_is_used_again_only_while_it_is_known_and_not_revoked():
    known = ApiKey(id="4f9c2a")
    assert is_valid("sk-4f9c2a-rest", [ApiKey(id="other"), known])
    assert not is_valid("sk-4f9c2a-rest", [ApiKey(id="other")])
    known.revoked_at.GetCurrentTime()
    assert not is_valid("sk-4f9c2a-rest", [known])


def test_the_curl_line_is_one_line_with_a_json_body():
    line = curl_line("http://127.0.0.1:4000", "sk-1", "demo")
    assert "\n" not in line
    assert json.loads(line.rpartition("-d '")[2].rstrip("'"))["model"] == "demo"


def test_the_end_of_a_log_is_what_this_start_wrote_in_words(tmp_path: Path):
    log = tmp_path / "role.log"
    log.write_text("of an earlier start\n", encoding="utf-8")
    begin = log.stat().st_size
    assert log_tail(log, begin) == "  (it wrote nothing)"
    with log.open("a", encoding="utf-8") as file:
        file.write(
            '{"event": "failed", "level": "critical", "message": "no database", "hint": "Start it."}\nplain\n[1]\n'
        )
    assert log_tail(log, begin) == "  failed: no database: Start it.\n  plain\n  [1]"
    log.write_text("".join(f"{number}\n" for number in range(100)), encoding="utf-8")
    assert log_tail(log, 0).splitlines()[0] == "  85"


def test_a_log_that_has_become_large_is_put_aside_when_it_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(child, "LOG_ROTATE_BYTES", 10)
    log = tmp_path / "logs" / "role.log"
    for text in (b"first start, a long story", b"second"):
        with child.open_log(log) as file:
            file.write(text)
    assert log.read_bytes() == b"second"
    assert log.with_name("role.log.1").read_bytes() == b"first start, a long story"
    assert log.stat().st_mode & 0o777 == 0o600
    with child.open_log(log) as file:
        file.write(b" third")
    assert log.read_bytes() == b"second third"
