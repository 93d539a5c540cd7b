"""From nothing to a running system and back, as a person would do it."""

import json
import signal
from pathlib import Path

import httpx
import openai
import pytest
from fakes.whole_system import System, eventually, is_free, is_running, running_system


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def test_ctrl_c_leaves_no_process_and_the_next_start_finds_its_state(home: Path) -> None:
    with running_system(home) as system:
        up = system.up
        key = up["api_key"]
        assert set(up["pids"]) == {"postgres", "coordinator", "agent", "gateway"}
        assert all(is_running(pid) for pid in up["pids"].values())
        engine = system.ready_replica()["pid"]
        system.studio("scale", "demo", "2", "--wait")
        output = system.stop()
        assert "curl" in output
        assert key in output
        assert not (home / "up.json").exists()
        assert not is_running(engine)
        assert system.processes() == []
        assert is_free(system.gateway_port)
        system.start()
        assert system.wait_until_up()["api_key"] == key
        assert len(system.listed("ps")) == 2


def test_the_printed_curl_line_works(home: Path) -> None:
    with running_system(home) as system:
        up = system.up
        answer = httpx.post(
            up["gateway_url"] + "/v1/chat/completions",
            headers={"Authorization": f"Bearer {up['api_key']}"},
            json={"model": "demo", "messages": [{"role": "user", "content": "Say hello"}]},
        )
        assert answer.status_code == 200
        assert "stand-in" in answer.json()["system_fingerprint"]


def test_detached_then_down(home: Path) -> None:
    system = System(home)
    ports = ("--gateway-port", str(system.gateway_port), "--coordinator-port", str(system.coordinator_port))
    done = system.studio("up", "--detach", *ports)
    assert "curl" in done.stdout
    engine = system.ready_replica()["pid"]
    down = system.studio("down")
    assert down.returncode == 0
    assert system.processes() == []
    assert not is_running(engine)
    assert "no `studio up` runs" in system.studio("down").stdout


def test_after_up_itself_was_killed_the_next_one_adopts_the_engine(home: Path) -> None:
    system = System(home)
    first = system.start()
    system.wait_until_up()
    engine = system.ready_replica()["pid"]
    first.send_signal(signal.SIGKILL)
    first.communicate(timeout=30)
    assert is_running(engine), "engines outlive whoever started them"
    system.start()
    eventually(lambda: system.process is not None and system.up["pid"] == system.process.pid, 60)
    assert system.ready_replica()["pid"] == engine
    system.stop()
    assert system.processes() == []
    assert not is_running(engine)


def test_two_homes_side_by_side(home: Path, tmp_path: Path) -> None:
    with running_system(home) as one, running_system(tmp_path / "other") as two:
        for system, other in ((one, two), (two, one)):
            up = system.up
            client = openai.OpenAI(base_url=up["gateway_url"] + "/v1", api_key=up["api_key"], max_retries=0)
            assert [model.id for model in client.models.list()] == ["demo"]
            stranger = openai.OpenAI(base_url=up["gateway_url"] + "/v1", api_key=other.up["api_key"], max_retries=0)
            with pytest.raises(openai.AuthenticationError):
                stranger.models.list()


def test_one_trace_from_the_cli_to_the_engine_start_and_one_from_gateway_to_engine(home: Path, tmp_path: Path) -> None:
    traces = tmp_path / "traces.jsonl"
    system = System(home)
    system.environment["STUDIO_TRACE_FILE"] = str(traces)
    system.start()
    try:
        up = system.wait_until_up()
        text = "kind: Recipe\nname: t\nengine: {name: demo}\n---\nkind: Deployment\nname: t\nrecipe: t\n"
        system.studio("apply", "-f", "-", "--wait", stdin=text)
        parent = "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"
        httpx.post(
            up["gateway_url"] + "/v1/chat/completions",
            headers={"Authorization": f"Bearer {up['api_key']}", "traceparent": parent},
            json={"model": "t", "messages": [{"role": "user", "content": "hi"}]},
        ).raise_for_status()
        assert "ab" * 16 in eventually(lambda: "ab" * 16 in (log := system.studio("logs", "t").stdout) and log)
    finally:
        system.stop()
    spans = [json.loads(line) for line in traces.read_text().splitlines()]
    by_trace: dict[str, set[str]] = {}
    for span in spans:
        service = span["resource"]["attributes"]["service.name"]
        by_trace.setdefault(span["context"]["trace_id"].removeprefix("0x"), set()).add(service)
    applied = next(span for span in spans if span["name"] == "coordinator.Apply" and "t" in json.dumps(span))
    assert by_trace["ab" * 16] == {"studio-gateway"}
    names = {"studio-cli", "studio-coordinator", "studio-agent"}
    assert any(names <= services for services in by_trace.values()), (applied, by_trace)


def test_every_daemon_serves_metrics(home: Path) -> None:
    with running_system(home) as system:
        for role, address in system.up["metrics"].items():
            text = httpx.get(f"http://{address}/metrics").text
            assert f"studio_{role}" in text
