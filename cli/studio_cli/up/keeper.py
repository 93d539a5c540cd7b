"""One role, kept running: started, watched until it is ready, and started again when it dies.

::

    STARTING ──ready file──► READY
       ▲  │                    │
       │  ╰──────dies──────────┤
       ╰──── after the pace ───╯      during start-up: hopeless after a few quick deaths, or when it is not ready in time

The process is not ended by cancelling ``run``: whoever cancels it decides when and how (see ``shutdown``).
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from studio_runtime.errors import StudioError

from studio_cli import wording
from studio_cli.report import Report
from studio_cli.up.child import Child, describe_exit, open_log
from studio_cli.up.log_tail import log_tail
from studio_cli.up.pace import LONGEST_DELAY_SECONDS, Pace
from studio_cli.up.roles import Role

POLL_SECONDS = 0.05


class RoleFailedError(StudioError):
    """A role does not come up."""

    reason = "role_failed"


class Keeper:
    """Keeps ``role`` running; awaits ``changed`` after each start and each time it becomes ready."""

    def __init__(self, role: Role, report: Report, changed: Callable[[], Awaitable[None]]) -> None:
        self.role = role
        self.child: Child | None = None
        # What the running process says about itself.
        self.facts: Mapping[str, Any] = {}
        self.ready = asyncio.Event()
        # While the whole system starts, a role that cannot is an error; later it is tried for ever.
        self.starting_up = True
        self._report = report
        self._changed = changed
        self._log_start = 0

    async def run(self) -> None:
        """Keep the role running until cancelled. Raises RoleFailedError during start-up."""
        pace = Pace()
        while True:
            child = await self._start()
            started = time.monotonic()
            await self._changed()
            code = await self._watch(child)
            pace = pace.after_death(time.monotonic() - started)
            ended = describe_exit(code)
            if self.starting_up and pace.hopeless:
                raise self._failed(f"does not start: it ended {pace.deaths} times, last with {ended}")
            self._report.warning(
                f"{self.role.name} (pid {child.pid}) ended with {ended}; "
                f"started again in {wording.seconds(pace.delay_seconds)}; its log is {self.role.log}"
            )
            await asyncio.sleep(pace.delay_seconds)

    async def _start(self) -> Child:
        """Start the process, once the machine has room for it. Raises RoleFailedError during start-up."""
        while True:
            try:
                return self._spawn()
            except OSError as error:
                # A full disk, or no process to be had: it passes, and the other roles go on meanwhile.
                what = f"cannot be started: {error}"
                if self.starting_up:
                    raise RoleFailedError(f"{self.role.name} {what}") from error
                self._report.warning(
                    f"{self.role.name} {what}; tried again in {wording.seconds(LONGEST_DELAY_SECONDS)}"
                )
                await asyncio.sleep(LONGEST_DELAY_SECONDS)

    def _spawn(self) -> Child:
        self.role.readiness.clear()
        with open_log(self.role.log) as log:
            self._log_start = os.fstat(log.fileno()).st_size
            self.child, self.facts = Child(self.role.argv, log, self.role.stop_signal), {}
        return self.child

    async def _watch(self, child: Child) -> int:
        """Wait until ``child`` is ready, then until it ends; returns its exit code."""
        deadline = time.monotonic() + self.role.ready_seconds
        while not child.has_ended:
            facts = self.role.readiness.facts(child.pid)
            if facts is not None:
                self.facts = facts
                self.ready.set()
                await self._changed()
                break
            if self.starting_up and time.monotonic() > deadline:
                raise self._failed(f"(pid {child.pid}) was not ready within {self.role.ready_seconds:.0f} s")
            await asyncio.sleep(POLL_SECONDS)
        return await child.wait()

    def _failed(self, what: str) -> RoleFailedError:
        return RoleFailedError(
            f"{self.role.name} {what}", f"The end of {self.role.log}:\n{log_tail(self.role.log, self._log_start)}"
        )
