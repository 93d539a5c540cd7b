"""The faults that tests ask for: sudden exits, a child that stays, held memory, dropped connections."""

import asyncio
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

from studio_agent.demo_engine.settings import Settings

MEMORY_DIR = "STUDIO_DEMO_GPU_MEMORY_DIR"
log = logging.getLogger(__name__)


class ConnectionDropped(Exception):  # noqa: N818 - a turn of events, not an error of ours
    """The connection is to be closed in the middle of the answer."""


class MemoryClaim:
    """Simulated GPU memory: while held, a file `DEVICE.PID` with the number of bytes for each visible device.

    A process that is killed leaves its files, as a file cannot die with it: a reader counts those whose pid runs.
    """

    def __init__(self, amount_bytes: int) -> None:
        folder = os.environ.get(MEMORY_DIR)
        devices = os.environ.get("CUDA_VISIBLE_DEVICES") or "cpu"
        self._amount_bytes = amount_bytes
        self._files = (
            [Path(folder) / f"{device}.{os.getpid()}" for device in devices.split(",")]
            if folder and amount_bytes
            else []
        )

    def take(self) -> None:
        """Claim it."""
        for file in self._files:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{self._amount_bytes}\n", encoding="ascii")

    def release(self) -> None:
        """Give it back."""
        for file in self._files:
            file.unlink(missing_ok=True)


def start_child(settings: Settings) -> None:
    """Start a process in a session of its own that holds the same memory and outlives the engine."""
    child = subprocess.Popen(
        [sys.executable, "-m", "studio_agent.demo_engine.left_child", str(settings.gpu_memory_bytes)],
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    log.info("left a child behind, pid %d", child.pid)


def exit_suddenly(code: int) -> None:
    """End as a crash does: no cleanup, nothing said to clients."""
    log.error("Exiting with code %d, as asked.", code)
    os._exit(code)


async def exit_later(settings: Settings, started: float) -> None:
    """Exit when the settings say so; ``started`` is the loop time of the start of the process."""
    if settings.fail_line or (settings.exit_code is None and settings.exit_after_seconds is None):
        return
    wait_seconds = started + (settings.exit_after_seconds or 0.0) - asyncio.get_running_loop().time()
    await asyncio.sleep(max(0.0, wait_seconds))
    exit_suddenly(settings.exit_code or 0)


def ignore_sigterm() -> None:
    """Have the loop swallow SIGTERM from now on."""
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, log.warning, "SIGTERM ignored, as asked.")
