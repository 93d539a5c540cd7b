"""Several gateway processes behind one address, started and replaced by this one.

The listening socket is made here and handed down, so that a connection that nobody has accepted yet is not lost with a process
that might have. Each worker has a folder of its own below the state folder: its tables, its spool, its name. Which connection
goes to which worker is the kernel's choice.

::

    start ──ready──► SERVING ──ended by itself──► started again, a second later
                        │
                      SIGHUP: another is started first, and is ready
                        ▼
                     RETIRING: accepts nothing, finishes what it has, ends

SIGHUP also reads the command line again, that is, the file of options it names: the new workers have what is said there now, be
it another number of them or another address. Where that cannot be, or the first of them does not start, everything stays as it
was.

SIGTERM ends all of them, each draining as it does alone; should this process be killed, the kernel tells them to.
"""

import argparse
import asyncio
import json
import os
import shutil
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from studio_runtime.logging import configure_logging
from studio_runtime.process import announce_ready, lock_folder, run_until_stopped
from studio_runtime.settings import Address
from studio_runtime.watchdog import Watchdog

from studio_gateway.server import BACKLOG, listen

log = structlog.get_logger()

AGAIN_SECONDS = 1.0
START_SECONDS = 30.0
LOOK_SECONDS = 0.02
LAST_GOOD = "last-good-*.binpb"


@dataclass(eq=False)
class Worker:
    """One process. ``slot`` numbers its folder."""

    slot: int
    process: asyncio.subprocess.Process
    ready_file: Path
    is_retiring: bool = False
    # It is to take another's place and does not serve yet: should it end now, that other one stays and nothing is started again.
    is_on_trial: bool = False

    def ready(self) -> dict[str, Any] | None:
        """What it said when it was ready; None before."""
        try:
            said: dict[str, Any] = json.loads(self.ready_file.read_bytes())
        except FileNotFoundError:
            return None
        return said if said["pid"] == self.process.pid else None


def supervise(read: Callable[[], argparse.Namespace]) -> None:
    """Run workers until SIGTERM; ends with one sentence and exit code 1 when it cannot start. ``read`` reads the options."""
    arguments = read()
    configure_logging("gateway", arguments.log_level)
    try:
        _lock = lock_folder(arguments.state_dir)
        sock = _listening(arguments)
    except BlockingIOError as error:
        sys.exit(f"The gateway with process id {error.filename} uses {arguments.state_dir}; name another --state-dir.")
    except OSError as error:
        sys.exit(f"Cannot listen on {arguments.listen}: {error.strerror}; name another address with --listen.")
    run_until_stopped(lambda: Workers(arguments, sock, read).run())


def _listening(arguments: argparse.Namespace) -> socket.socket:
    sock = listen(arguments.listen)
    sock.listen(BACKLOG)
    return sock


class Workers:
    """All workers of one address."""

    def __init__(
        self, arguments: argparse.Namespace, sock: socket.socket, read: Callable[[], argparse.Namespace]
    ) -> None:
        self._arguments = arguments
        self._read = read
        self._sock = sock
        self._workers: set[Worker] = set()
        self._taken: set[int] = set()
        self._is_stopping = False

    async def run(self) -> None:
        """Keep the workers running until cancelled, then stop them."""
        replace = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, replace.set)
        async with asyncio.TaskGroup() as tasks:
            try:
                await asyncio.gather(*(self._start(tasks) for _ in range(self._arguments.workers)))
                await self._announce()
                tasks.create_task(Watchdog().keep_beating())
                while True:
                    await replace.wait()
                    replace.clear()
                    await self._reload(tasks)
            finally:
                self._is_stopping = True
                await self._stop()

    async def _announce(self) -> None:
        address = Address(self._arguments.listen.host, self._sock.getsockname()[1])
        metrics = sorted(str(said["metrics"]) for worker in self._workers if (said := worker.ready()))
        fields = {"address": str(address), "metrics": ",".join(metrics)}
        log.info("gateway_ready", workers=len(self._workers), **fields)
        await asyncio.to_thread(announce_ready, self._arguments.ready_file, **fields)

    async def _reload(self, tasks: asyncio.TaskGroup) -> None:
        """Take up what the options say now, and replace every worker."""
        before = self._arguments, self._sock
        if (given := self._read_again()) is None:
            return
        try:
            sock = self._sock if given.listen == self._arguments.listen else _listening(given)
        except OSError as error:
            log.warning("options_not_taken", listen=str(given.listen), reason=error.strerror)
            return
        self._arguments, self._sock = given, sock
        if not await self._replace_all(tasks):
            self._arguments, self._sock = before
            if sock is not self._sock:
                sock.close()
            return
        if sock is not before[1]:
            before[1].close()
        await self._announce()

    def _read_again(self) -> argparse.Namespace | None:
        """The options as they are now; None where this process cannot go over to them."""
        try:
            given = self._read()
        except SystemExit:
            # What is wrong with them has been printed.
            log.warning("options_not_taken", reason="they cannot be read")
            return None
        if given.workers is None or given.state_dir != self._arguments.state_dir:
            log.warning("options_not_taken", reason="a restart is needed for another --state-dir, or none of --workers")
            return None
        return given

    async def _replace_all(self, tasks: asyncio.TaskGroup) -> bool:
        """One after the other: a new one first, and only when it is ready an old one retires. False where none came up."""
        old = sorted((worker for worker in self._workers if not worker.is_retiring), key=lambda one: one.slot)
        for number in range(self._arguments.workers):
            successor = await self._start(tasks, is_on_trial=True)
            if successor is None:
                log.error("worker_not_replaced", reason="its successor did not start")
                return number > 0
            if old:
                _retire(old.pop(0), successor)
        for worker in old:
            _retire(worker)
        return True

    async def _start(self, tasks: asyncio.TaskGroup, *, is_on_trial: bool = False) -> Worker | None:
        """A new worker that is ready; None where it has ended instead."""
        slot = self._take_slot()
        folder = self._folder(slot)
        ready_file = folder / "ready.json"
        argv = self._argv(slot, folder, ready_file)
        process = await asyncio.create_subprocess_exec(
            *argv, pass_fds=(self._sock.fileno(),), env=_without_service_manager()
        )
        worker = Worker(slot, process, ready_file, is_on_trial=is_on_trial)
        self._workers.add(worker)
        tasks.create_task(self._watch(worker, tasks))
        if self._is_stopping:
            # It was begun before, and is not among those that have been told.
            _signal(worker, signal.SIGTERM)
        if not await _is_ready(worker):
            return None
        worker.is_on_trial = False
        return worker

    async def _watch(self, worker: Worker, tasks: asyncio.TaskGroup) -> None:
        """Wait for the end of ``worker``, and start another where nobody wanted that."""
        code = await worker.process.wait()
        self._workers.discard(worker)
        self._taken.discard(worker.slot)
        if worker.is_retiring or worker.is_on_trial or self._is_stopping:
            log.info("worker_ended", slot=worker.slot, code=code)
            return
        log.error("worker_lost", slot=worker.slot, code=code)
        await asyncio.sleep(AGAIN_SECONDS)
        if not self._is_stopping:
            await self._start(tasks)

    async def _stop(self) -> None:
        for worker in self._workers:
            _signal(worker, signal.SIGTERM)
        # One that is being started meanwhile is told by who starts it.
        while self._workers:
            await asyncio.gather(*(worker.process.wait() for worker in self._workers))
            self._workers = {worker for worker in self._workers if worker.process.returncode is None}

    def _take_slot(self) -> int:
        """Take a number that no worker has; first those that left usage behind for the coordinator."""
        free = [slot for slot in range(2 * self._arguments.workers + len(self._taken)) if slot not in self._taken]
        left_behind = [slot for slot in free if any((self._path(slot) / "usage").glob("usage-*"))]
        slot = (left_behind or free)[0]
        self._taken.add(slot)
        return slot

    def _path(self, slot: int) -> Path:
        folder: Path = self._arguments.state_dir / f"worker-{slot}"
        return folder

    def _folder(self, slot: int) -> Path:
        """The folder of ``slot``, with the newest tables that any worker has: the coordinator may be away.

        What the slot's last worker left there may name engines that have long gone.
        """
        folder = self._path(slot)
        folder.mkdir(mode=0o700, exist_ok=True)
        state_dir: Path = self._arguments.state_dir
        tables = [*state_dir.glob(LAST_GOOD), *state_dir.glob(f"worker-*/{LAST_GOOD}")]
        for name in {table.name for table in tables}:
            newest = max((table for table in tables if table.name == name), key=lambda table: table.stat().st_mtime)
            if newest.parent != folder:
                shutil.copy2(newest, folder / name)
        return folder

    def _argv(self, slot: int, folder: Path, ready_file: Path) -> list[str]:
        given = self._arguments
        ready_file.unlink(missing_ok=True)
        argv = [sys.executable, "-m", "studio_gateway", "--listen", str(given.listen)]
        argv += ["--listen-fd", str(self._sock.fileno()), "--parent", str(os.getpid())]
        argv += ["--state-dir", str(folder), "--ready-file", str(ready_file)]
        argv += ["--coordinator", ",".join(map(str, given.coordinator))]
        argv += ["--litellm", given.litellm, "--log-level", given.log_level]
        if given.litellm_config is not None:
            argv += ["--litellm-config", str(given.litellm_config)]
        if given.token_file is not None:
            argv += ["--token-file", str(given.token_file)]
        if given.request_log:
            argv.append("--request-log")
        if given.metrics is not None:
            port = given.metrics.port + slot if given.metrics.port else 0
            argv += ["--metrics", str(Address(given.metrics.host, port))]
        return argv


def _without_service_manager() -> dict[str, str]:
    """What workers find in their environment: the service manager hears of readiness and life from their parent alone."""
    return {name: value for name, value in os.environ.items() if name not in ("NOTIFY_SOCKET", "WATCHDOG_USEC")}


async def _is_ready(worker: Worker) -> bool:
    """Wait until ``worker`` says so, or has ended; one that does neither is ended."""
    for _ in range(int(START_SECONDS / LOOK_SECONDS)):
        if worker.process.returncode is not None:
            return False
        if worker.ready() is not None:
            return True
        # Another process writes the file; there is nothing to wait on.
        await asyncio.sleep(LOOK_SECONDS)
    log.error("worker_not_ready", slot=worker.slot, seconds=START_SECONDS)
    _signal(worker, signal.SIGKILL)
    return False


def _retire(worker: Worker, successor: Worker | None = None) -> None:
    worker.is_retiring = True
    _signal(worker, signal.SIGHUP)
    log.info("worker_replaced", slot=worker.slot, by=None if successor is None else successor.slot)


def _signal(worker: Worker, number: signal.Signals) -> None:
    if worker.process.returncode is None:
        os.kill(worker.process.pid, number)
