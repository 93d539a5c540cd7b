"""The terminal: keys in, pictures out."""

import asyncio
import os
import sys
import termios
import tty
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text
from studio.v1.telemetry_service_pb2 import WatchTelemetryResponse
from studio_runtime.errors import UnavailableError

from studio_cli.top.fleet import Fleet
from studio_cli.top.keys import HELP, View
from studio_cli.top.pages import page, summary
from studio_cli.views.table import lay_out

# Summary, blank, head of the table, and the line of keys.
FRAME_LINES = 4
RETRY_SECONDS = 1.0
LONGEST_KEY = 16


def frame(fleet: Fleet, view: View, now: datetime, width: int, height: int, footer: str) -> list[Text]:
    """The lines of one picture; no more than ``height``, none wider than ``width``. A ``height`` of 0: all there are."""
    table = page(fleet, view.page, view.order, now)
    room = max(1, height - FRAME_LINES) if height else len(table.rows)
    view = view.within(len(table.rows), room)
    head, *rows = lay_out(table, wide=False) if table.rows else [Text(table.empty)]
    shown = rows[view.first : view.first + room]
    hidden = len(rows) - len(shown)
    title = Text(f"{now.astimezone():%H:%M:%S}  {summary(fleet)}   ")
    title.append(f"{view.page} by {view.order}" + (f", {hidden} more" if hidden else ""), style="bold")
    lines = [title, Text(), head, *shown]
    if footer:
        lines.append(Text(footer, style="dim"))
    for line in lines:
        line.truncate(width, overflow="ellipsis")
    return lines


class Screen:
    """One run of the full-screen view."""

    def __init__(self, console: Console, view: View) -> None:
        self._console = console
        self._fleet = Fleet()
        self._view = view
        self._footer = HELP
        self._touched = asyncio.Event()

    async def show(self, changes: AsyncIterator[WatchTelemetryResponse]) -> None:
        """Show what ``changes`` adds up to until ``q`` is pressed. Raises what they raise."""
        with _keys(self._press), Live(console=self._console, screen=True, auto_refresh=False) as live:
            reading = asyncio.ensure_future(self._read(changes))
            try:
                while not self._view.done:
                    width, height = self._console.size
                    lines = frame(self._fleet, self._view, datetime.now(UTC), width, height, self._footer)
                    live.update(Group(*lines), refresh=True)
                    touched = asyncio.ensure_future(self._touched.wait())
                    await asyncio.wait((touched, reading), timeout=1.0, return_when=asyncio.FIRST_COMPLETED)
                    touched.cancel()
                    self._touched.clear()
                    if reading.done():
                        reading.result()
                        return
            finally:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)

    async def _read(self, changes: AsyncIterator[WatchTelemetryResponse]) -> None:
        async for change in changes:
            self._fleet.take(change)
            self._footer = HELP
            self._touched.set()

    def lost(self, error: UnavailableError) -> None:
        """Say below the picture that it is not renewed."""
        self._footer = f"{error.message}; trying again   q quit"
        self._touched.set()

    def _press(self, key: str) -> None:
        self._view = self._view.pressed(key)
        self._touched.set()


@contextmanager
def _keys(press: Callable[[str], None]) -> Iterator[None]:
    """Hand each key to ``press`` as it is pressed, without an echo; the terminal is given back as it was."""
    descriptor, loop = sys.stdin.fileno(), asyncio.get_running_loop()
    if not os.isatty(descriptor):
        yield
        return
    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor)
    loop.add_reader(descriptor, lambda: press(os.read(descriptor, LONGEST_KEY).decode(errors="replace")))
    try:
        yield
    finally:
        loop.remove_reader(descriptor)
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
