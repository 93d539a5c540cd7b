"""A process that this one started, in a session of its own, with its output in a file.

It is started in one step that cannot be cancelled half-way, and from the main thread: the kernel's promise to signal the child
when its parent ends is about the *thread* that started it. Its end is awaited through a pidfd, so no signal handler is needed.
"""

import asyncio
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from studio_runtime.process import ProcessIdentity

LOG_ROTATE_BYTES = 10 * 1024 * 1024


class Child:
    """The process of ``argv``; where ``death_signal`` is given the kernel sends it when this process ends, however it ends."""

    def __init__(self, argv: Sequence[str], log: IO[bytes], death_signal: signal.Signals | None = None) -> None:
        # setpriv asks the kernel and becomes the program by exec: the pid stays.
        setpriv = ("setpriv", "--pdeathsig", death_signal.name.removeprefix("SIG"), "--") if death_signal else ()
        self._process = subprocess.Popen(
            (*setpriv, *argv),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # The terminal's Ctrl-C is for this process, which stops the others in order.
            start_new_session=True,
        )
        self.pid = self._process.pid
        self.identity = ProcessIdentity.of(self.pid)

    @property
    def has_ended(self) -> bool:
        """Whether it is gone."""
        return self._process.poll() is not None

    @property
    def exit_code(self) -> int | None:
        """Its exit code, minus the signal's number where one ended it; None while it runs."""
        return self._process.poll()

    def send(self, number: signal.Signals) -> None:
        """Signal it; nothing happens when it is gone."""
        self._process.send_signal(number)

    async def wait(self) -> int:
        """Wait for its end; returns the exit code. May be cancelled, and awaited again."""
        if (code := self._process.poll()) is not None:
            return code
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        descriptor = os.pidfd_open(self.pid)
        loop.add_reader(descriptor, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)
        # A pidfd becomes readable when the process is a zombie: this only collects it.
        return self._process.wait()


def open_log(path: Path) -> IO[bytes]:
    """The log to append to; what is there already is put aside where it has become large."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > LOG_ROTATE_BYTES:
        path.replace(path.with_name(path.name + ".1"))
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab")


def describe_exit(code: int) -> str:
    """An exit code, minus a signal's number, in words."""
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"
