"""Telling the service manager that a process's loop goes round. Only the loop itself may say so."""

import asyncio
import os
import time
from collections.abc import Callable, Mapping

from studio_runtime.process import notify_systemd

# Beats for each interval of the watchdog: one may be lost or late.
BEATS = 4


class Watchdog:
    """Sends ``WATCHDOG=1`` when the loop beats, no oftener than is needed; nothing where no watchdog was asked for."""

    def __init__(
        self, environment: Mapping[str, str] = os.environ, send: Callable[[str], None] = notify_systemd
    ) -> None:
        microseconds = environment.get("WATCHDOG_USEC", "")
        meant_for = environment.get("WATCHDOG_PID", "")
        ours = not meant_for or meant_for == str(os.getpid())
        self._pause = int(microseconds) / 1e6 / BEATS if microseconds.isdigit() and ours else None
        self._send = send
        self._due = 0.0

    def beat(self, now: float) -> None:
        """The loop made a pass at ``now``, in seconds of a clock that never goes back."""
        if self._pause is not None and now >= self._due:
            self._due = now + self._pause
            self._send("WATCHDOG=1")

    async def keep_beating(self) -> None:
        """Beat for as long as the event loop that this runs on goes round: for a process without a pass of its own."""
        while self._pause is not None:
            self.beat(time.monotonic())
            await asyncio.sleep(self._pause)
