"""The whole system as an operator has it: ``studio up`` in a process of its own, and the ``studio`` CLI beside it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import psutil
from fakes.ports import free_port

T = TypeVar("T")
# What the engine lane calls the model that it makes on the spot.
TINY_MODEL = "tiny-llama"
STUDIO = Path(sys.executable).parent / "studio"


def eventually(what: Callable[[], T], at_most_seconds: float = 30.0) -> T:
    """Wait until ``what`` is true (or stops raising), and return it."""
    deadline = time.monotonic() + at_most_seconds
    last: object = None
    while time.monotonic() < deadline:
        try:
            last = what()
        except (OSError, AssertionError, LookupError, StopIteration, psutil.Error, json.JSONDecodeError) as error:
            last = error
        else:
            if last:
                return last
        # Most questions are a process of their own, which costs more than the wait.
        time.sleep(0.2)
    raise AssertionError(f"it did not come true within {at_most_seconds} s; last: {last!r}")


class System:
    def __init__(self, home: Path, *, gateway_port: int = 0, coordinator_port: int = 0) -> None:
        self.home = home
        self.gateway_port = gateway_port or free_port()
        self.coordinator_port = coordinator_port or free_port()
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("STUDIO_")},
            "STUDIO_HOME": str(home),
            "NO_COLOR": "1",
            "COLUMNS": "250",
        }
        self.process: subprocess.Popen[str] | None = None

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        argv = [
            STUDIO,
            "up",
            "--gateway-port",
            str(self.gateway_port),
            "--coordinator-port",
            str(self.coordinator_port),
        ]
        self.process = subprocess.Popen(
            [*argv, *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        return self.process

    def wait_until_up(self, at_most_seconds: float = 60.0) -> dict[str, Any]:
        process = self.process
        assert process is not None

        def ready() -> bool:
            if process.poll() is not None and process.stdout is not None:
                raise RuntimeError(f"studio up ended with {process.returncode}:\n{process.stdout.read()}")
            return (self.home / "up.json").exists()

        eventually(ready, at_most_seconds)
        return self.up

    def stop(self) -> str:
        """Ctrl-C; returns all that ``studio up`` printed."""
        process = self.process
        assert process is not None
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        try:
            output, _ = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        self.process = None
        return output

    @property
    def up(self) -> dict[str, Any]:
        return dict(json.loads((self.home / "up.json").read_text()))

    def pid(self, role: str) -> int:
        return int(self.up["pids"][role])

    def studio(
        self, *arguments: str, check: bool = True, stdin: str | None = None
    ) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(
            [STUDIO, *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            input=stdin,
        )
        assert not check or done.returncode == 0, f"studio {' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done

    def listed(self, *arguments: str) -> list[dict[str, Any]]:
        return list(json.loads(self.studio(*arguments, "-o", "json").stdout))

    def replica(self, name: str = "demo-1") -> dict[str, Any]:
        return next(row for row in self.listed("ps") if row["id"] == name)

    def ready_replica(self, name: str = "demo-1") -> dict[str, Any]:
        def ready() -> dict[str, Any] | None:
            row = self.replica(name)
            return row if row["state"] == "READY" else None

        found = eventually(ready)
        assert found is not None
        return found

    def processes(self) -> list[psutil.Process]:
        """Every process that has this home in its environment or command line, zombies left out; not ``studio up`` itself."""
        found = []
        for process in psutil.process_iter():
            try:
                text = " ".join([*process.cmdline(), *process.environ().values()])
                if str(self.home) in text and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue
        return found


def is_free(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) != 0


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@contextmanager
def running_system(home: Path, *arguments: str) -> Iterator[System]:
    system = System(home)
    system.start(*arguments)
    try:
        system.wait_until_up()
        yield system
    finally:
        if system.process is not None:
            system.stop()
