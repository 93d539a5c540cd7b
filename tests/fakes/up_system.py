"""One installation of ``studio up`` under test, its processes, and whether any is left."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil
from fakes.ports import free_port

FAKES = Path(__file__).parent
PATIENCE_SECONDS = 40


def wait_until(what: Callable[[], Any], about: str) -> Any:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (result := what()):
        assert time.monotonic() < deadline, f"waited in vain until {about}"
        time.sleep(0.02)
    return result


class Running:
    """A process and all that it said."""

    def __init__(self, argv: Sequence[str], environment: dict[str, str], log: Path) -> None:
        self._log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                argv, env=environment, stdout=output, stderr=output, start_new_session=True
            )
        self.pid = self._process.pid

    @property
    def code(self) -> int | None:
        return self._process.poll()

    def wait(self) -> str:
        """Wait for its end; what it said."""
        self._process.wait(PATIENCE_SECONDS)
        return self.said()

    def said(self) -> str:
        return self._log.read_text(encoding="utf-8")

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def end(self, number: signal.Signals = signal.SIGINT) -> str:
        """Signal it and wait."""
        self.send(number)
        return self.wait()


class Up:
    """One installation, and the ``studio up`` that runs on it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.gateway_port, self.coordinator_port = free_port(), free_port()
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("STUDIO_")},
            "STUDIO_HOME": str(home),
        }
        self.started: list[Running] = []

    def start(self, *flags: str, ports: tuple[int, int] | None = None) -> Running:
        gateway, coordinator = ports or (self.gateway_port, self.coordinator_port)
        program = (sys.executable, str(FAKES / "up_stand_ins.py"), str(gateway), str(coordinator), *flags)
        log = self.home.with_name(f"{self.home.name}-{len(self.started)}.log")
        self.started.append(Running(program, self.environment, log))
        return self.started[-1]

    def document(self) -> dict[str, Any] | None:
        try:
            return json.loads((self.home / "up.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def ready(self, *flags: str) -> tuple[Running, dict[str, Any]]:
        process = self.start(*flags)

        def outcome() -> dict[str, Any] | None:
            assert process.code is None, process.said()
            document = self.document()
            return document if document and document["pid"] == process.pid else None

        return process, wait_until(outcome, "the system is up")

    def studio(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            (sys.executable, "-m", "studio_cli", *words),
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_SECONDS,
        )

    def left(self) -> list[psutil.Process]:
        """Processes that belong to this installation and still run."""
        return [
            process
            for process in psutil.process_iter(["cmdline", "status"])
            if process.pid != os.getpid()
            and process.info["status"] != psutil.STATUS_ZOMBIE
            and any(str(self.home) in word for word in process.info["cmdline"] or ())
        ]

    def clear(self) -> None:
        for process in self.started:
            process.end(signal.SIGKILL)
        for process in self.left():
            process.kill()
