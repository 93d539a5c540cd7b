"""``studio up`` in adversity: no room, no reader, its last step killed. What runs goes on, and in the end nothing is left."""

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
from fakes.up_system import FAKES, PATIENCE_SECONDS, Up, wait_until


def limit_files(pid: int, limit: int) -> None:
    """Have every write of ``pid`` to a file fail where ``limit`` is 0, as on a full disk; its children inherit it."""
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (limit, hard))


def test_on_a_full_disk_what_runs_goes_on_and_what_dies_is_back_once_there_is_room(system: Up):
    process, document = system.ready()
    old = document["pids"]["gateway"]
    limit_files(process.pid, 0)
    os.kill(old, signal.SIGKILL)
    # The stand-in cannot say that it is ready, ends, and is started again.
    wait_until(lambda: not psutil.pid_exists(old), "the gateway is gone")
    tried = wait_until(
        lambda: [child.pid for child in psutil.Process(process.pid).children() if "--http" in " ".join(cmdline(child))],
        "the gateway is tried again",
    )
    assert process.code is None
    assert psutil.pid_exists(document["pids"]["agent"])
    limit_files(process.pid, resource.RLIM_INFINITY)

    def recovered() -> dict[str, Any] | None:
        found = system.document()
        return found if found and found["pids"]["gateway"] not in (old, *tried) else None

    again = wait_until(recovered, "up.json names the new gateway")
    assert psutil.pid_exists(again["pids"]["gateway"])
    assert again["pids"]["agent"] == document["pids"]["agent"]
    process.end()
    assert process.code == 0
    assert not system.left()


def cmdline(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


def test_without_a_reader_of_its_output_it_goes_on_and_stops_in_order(system: Up):
    program = (sys.executable, str(FAKES / "up_stand_ins.py"), str(system.gateway_port), str(system.coordinator_port))
    with subprocess.Popen(
        program, env=system.environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        document = wait_until(system.document, "the system is up")
        assert all(psutil.pid_exists(document["pids"][role]) for role in ("coordinator", "agent", "gateway"))
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_SECONDS) == 0
    assert not system.left()
    assert "engines are stopped" in (system.home / "logs" / "agent.log").read_text(encoding="utf-8")


def test_when_what_stops_the_engines_is_killed_it_is_run_once_more(system: Up, tmp_path: Path):
    once = tmp_path / "once"
    system.environment["EPILOGUE_DIES_UNLESS"] = str(once)
    process, _ = system.ready()
    output = process.end()
    assert once.exists()
    assert "engines          stopped" in output
    assert "engines are stopped" in (system.home / "logs" / "agent.log").read_text(encoding="utf-8")


def test_a_home_that_cannot_be_is_one_sentence(tmp_path: Path):
    file = tmp_path / "file"
    file.touch()
    done = subprocess.run(
        (sys.executable, "-m", "studio_cli", "up"),
        env={**os.environ, "STUDIO_HOME": str(file / "home")},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_SECONDS,
    )
    assert done.returncode == 1
    assert str(file / "home") in done.stderr
    assert "Traceback" not in done.stderr
