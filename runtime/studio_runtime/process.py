"""Processes: who one is, how ours run and stop, how they say that they are ready, and who owns a folder."""

import asyncio
import ctypes
import fcntl
import json
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import uvloop

PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class ProcessIdentity:
    """A process that cannot be mistaken for a later one with the same pid."""

    pid: int
    # Clock ticks after boot, field 22 of /proc/PID/stat.
    start_ticks: int

    @classmethod
    def of(cls, pid: int) -> "ProcessIdentity | None":
        """The identity of the process that has ``pid`` now; None where there is none, or only its zombie."""
        try:
            # The command may hold spaces and parentheses; what follows its last ")" is plain fields from "state" on.
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return None
        return None if fields[0] in "ZX" else cls(pid, int(fields[19]))

    def is_running(self) -> bool:
        """Whether this very process, not a zombie and not another one, still runs."""
        return ProcessIdentity.of(self.pid) == self


def boot_id() -> str:
    """Changes with every boot of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def die_with_parent() -> None:
    """Have the kernel send SIGTERM to this process when its parent ends, however it ends. Linux only."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def run_until_stopped(main: Callable[[], Awaitable[None]]) -> None:
    """Run ``main`` until it returns or SIGTERM or SIGINT cancels it; cancellation is the only way to stop.

    Raises what ``main`` raises, except for the cancellation that a signal asked for.
    """

    async def cancelled_by_signals() -> None:
        task = asyncio.ensure_future(main())
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, task.cancel)
        try:
            await task
        except asyncio.CancelledError:
            if not task.cancelled():
                raise

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(cancelled_by_signals())


def write_atomically(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Replace ``path`` by ``content`` so that a crash at any point leaves the old or the new one, whole and on disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def announce_ready(file: Path | None, **fields: Any) -> None:
    """Say that this process is ready: to systemd where it asked, and in ``file`` (JSON with pid and ``fields``)."""
    notify_systemd("READY=1")
    if file is not None:
        write_atomically(file, json.dumps({"pid": os.getpid(), **fields}).encode())


def notify_systemd(message: str) -> None:
    """Send ``message`` to the service manager; nothing happens when the process was not started by it."""
    target = os.environ.get("NOTIFY_SOCKET")
    if not target:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(message.encode(), "\0" + target[1:] if target.startswith("@") else target)


def lock_folder(folder: Path, name: str = ".lock") -> IO[str]:
    """Take the folder for this process until the returned file is closed or the process ends.

    Raises BlockingIOError, with the owner's pid as its ``filename``, when another process has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / name).open("a+", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        owner = file.read().strip()
        file.close()
        raise BlockingIOError(error.errno, "the folder is in use", owner) from None
    # The lock is what counts; on a full disk its owner is not named.
    with suppress(OSError):
        os.truncate(file.fileno(), 0)
        os.write(file.fileno(), str(os.getpid()).encode())
    return file
