"""The demo engine as a real process that logs to a file, for tests of what speaks to an engine."""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from fakes.ports import free_port

T = TypeVar("T")
WAIT_SECONDS = 30


async def until(condition: Callable[[], T]) -> T:
    """The first true value of ``condition``."""
    async with asyncio.timeout(WAIT_SECONDS):
        while not (value := condition()):
            await asyncio.sleep(0.01)
        return value


@dataclass
class DemoProcess:
    process: subprocess.Popen[bytes]
    url: str
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    async def ended(self) -> int:
        """Wait for its end; its exit code."""
        await until(lambda: self.process.poll() is not None)
        return self.process.returncode

    async def said(self, text: str) -> str:
        """Wait for a line of the log that holds ``text``."""

        def found() -> str:
            ended = self.process.poll() is not None
            lines = self.log.read_text().splitlines()
            line = next((line for line in lines if text in line), "")
            if ended and not line:
                raise AssertionError(f"the engine ended without saying {text!r}: {lines}")
            return line

        return await until(found)


@asynccontextmanager
async def demo_engine(*flags: str, ready: bool = True, env: dict[str, str] | None = None) -> AsyncIterator[DemoProcess]:
    """Start it under the names `demo` and `alias` with ``flags``; killed at the end, with its process group."""
    port = free_port()
    argv = [sys.executable, "-m", "studio_agent.demo_engine", "--model", "demo", "alias", "--port", str(port), *flags]
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "log").open("wb") as log:
        process = await asyncio.to_thread(
            subprocess.Popen, argv, stdout=log, stderr=log, env={**os.environ, **(env or {})}, start_new_session=True
        )
        engine = DemoProcess(process, f"http://127.0.0.1:{port}", Path(log.name))
        try:
            if ready:
                await engine.said("Application startup complete")
            yield engine
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
