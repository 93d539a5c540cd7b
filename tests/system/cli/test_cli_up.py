"""``studio up`` as a process, with stand-ins for the roles: what it starts and restarts, and that it leaves nothing behind."""

import os
import signal
import socket
from pathlib import Path
from typing import Any

import psutil
import pytest
from fakes.up_system import Up, wait_until
from studio_runtime.process import ProcessIdentity


def test_all_comes_up_in_order_and_ctrl_c_leaves_nothing_behind(system: Up):
    process, document = system.ready()
    assert document["gateway_url"] == f"http://127.0.0.1:{system.gateway_port}"
    assert document["coordinator"] == f"127.0.0.1:{system.coordinator_port}"
    assert document["pids"]["postgres"] is None
    assert all(psutil.pid_exists(document["pids"][role]) for role in ("coordinator", "agent", "gateway"))
    assert document["metrics"]["agent"] == "127.0.0.1:9"
    assert document["problem"] is None
    assert (system.home / "up.json").stat().st_mode & 0o777 == 0o600
    assert (system.home / "api-key").stat().st_mode & 0o777 == 0o600
    assert (system.home / "api-key").read_text(encoding="utf-8").strip() == document["api_key"]
    listed = system.studio("ps")
    assert listed.stdout.splitlines()[1].split()[:2] == ["demo", "demo-1"], listed.stderr
    output = process.end()
    assert process.code == 0
    lines = [line.split()[1] for line in output.splitlines() if line.startswith("✓")]
    assert lines == ["coordinator", "agent", "gateway", "demo", "gateway", "agent", "engines", "coordinator"]
    assert f"Bearer {document['api_key']}" in output
    assert not system.left()
    assert not (system.home / "up.json").exists()
    assert not list((system.home / "run").iterdir())


def test_a_role_that_dies_is_started_again_and_one_that_ignores_sigterm_is_killed(system: Up):
    process, document = system.ready("agent.--deaf")
    for role in ("gateway", "agent", "coordinator"):
        old = document["pids"][role]
        os.kill(old, signal.SIGKILL)

        def restarted(role: str = role, old: int = old) -> dict[str, Any] | None:
            found = system.document()
            return found if found and found["pids"][role] != old else None

        document = wait_until(restarted, f"{role} is started again")
        assert psutil.pid_exists(document["pids"][role])
    output = process.end(signal.SIGTERM)
    assert output.count("ended with SIGKILL") == 3
    assert "agent            killed" in output
    assert process.code == 0
    assert not system.left()


def test_a_role_that_cannot_start_ends_it_all_with_the_end_of_its_log(system: Up):
    process = system.start("gateway.--die-at-once=3", "gateway.--say=the database is on fire")
    output = process.wait()
    assert process.code == 1
    assert "gateway does not start: it ended 3 times, last with exit code 3" in output
    assert "  the database is on fire" in output
    assert not system.left()
    assert not (system.home / "up.json").exists()


def test_ctrl_c_while_it_starts_leaves_nothing_behind(system: Up):
    process = system.start("gateway.--never-ready")
    wait_until((system.home / "logs" / "gateway.log").exists, "the gateway is being started")
    process.end()
    assert process.code == 0
    assert not system.left()


def test_a_second_ctrl_c_hastens_and_still_leaves_nothing(system: Up):
    process, _ = system.ready("coordinator.--deaf", "gateway.--deaf", "agent.--deaf")
    process.send(signal.SIGINT)
    wait_until(lambda: not (system.home / "up.json").exists(), "it is stopping")
    output = process.end()
    assert "stopping at once" in output
    assert not system.left()


def test_a_home_takes_one_and_another_home_runs_beside_it(system: Up, tmp_path: Path):
    first, document = system.ready()
    other = Up(tmp_path / "other")
    second = system.start(ports=(other.gateway_port, other.coordinator_port))
    output = second.wait()
    assert second.code == 5
    assert f"pid {first.pid}" in output
    assert "studio down" in output
    try:
        beside, _ = other.ready()
        beside.end()
    finally:
        other.clear()
    assert first.code is None
    assert system.document() == document


def test_a_port_that_is_taken_is_named_and_nothing_is_started(system: Up):
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        taken = sock.getsockname()[1]
        process = system.start(ports=(taken, system.coordinator_port))
        output = process.wait()
    assert process.code == 1
    assert f"port {taken} is taken by pid {os.getpid()}" in output
    assert "--gateway-port" in output
    assert not (system.home / "logs").exists()


def test_after_a_kill_the_next_one_works_and_keeps_the_key(system: Up):
    process, document = system.ready()
    roles = [ProcessIdentity.of(pid) for pid in document["pids"].values() if pid]
    assert all(roles)
    process.end(signal.SIGKILL)
    _, again = system.ready()
    assert not any(role and role.is_running() for role in roles)
    assert again["pid"] != document["pid"]
    assert (system.home / "api-key").read_text(encoding="utf-8").strip() == again["api_key"]


def test_down_stops_what_runs_and_says_so_when_nothing_does(system: Up):
    process, _ = system.ready()
    said = system.studio("down")
    assert said.returncode == 0, said.stderr
    assert f"pid {process.pid} stopped" in said.stdout
    assert "gateway" in said.stdout
    process.wait()
    assert process.code == 0
    assert not system.left()
    again = system.studio("down")
    assert again.returncode == 0
    assert "no `studio up` runs" in again.stdout


def test_down_clears_up_after_a_kill(system: Up):
    process, _ = system.ready()
    process.end(signal.SIGKILL)
    said = system.studio("down")
    assert said.returncode == 0, said.stderr
    assert not system.left()
    assert not (system.home / "up.json").exists()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--engine", "vllm", "--model", "/no/such/model"), 2, "does not exist"),
        (("--engine", "vlm", "--detach"), 2, "no engine 'vlm'"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_started(system: Up, words: tuple[str, ...], code: int, said: str):
    result = system.studio("up", *words)
    assert result.returncode == code
    assert said in result.stderr + result.stdout
    assert not (system.home / "run").exists()
