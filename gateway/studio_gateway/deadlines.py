"""Deadlines of thousands of connections under one timer.

Whoever waits for something has a ``deadline`` that it moves by plain assignment, many times a second, at no cost; four times a
second all of them are looked at. A deadline is met up to a quarter of a second late, never early.
"""

import asyncio
import math
from typing import Protocol, Self

INTERVAL_SECONDS = 0.25
NEVER = math.inf


class Waiting(Protocol):
    """Something that may wait too long. ``deadline`` is in seconds of the loop's clock."""

    deadline: float

    def expired(self) -> None:
        """Called when the deadline has passed; has to move it, or leave the set."""


class Deadlines:
    """All that wait. Use it as a ``with`` block inside of a running loop."""

    def __init__(self) -> None:
        self._waiting: set[Waiting] = set()
        self._loop = asyncio.get_running_loop()
        self.clock = self._loop.time

    def __enter__(self) -> Self:
        self._timer = self._loop.call_later(INTERVAL_SECONDS, self._look)
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def watch(self, one: Waiting) -> None:
        """Look at ``one`` from now on."""
        self._waiting.add(one)

    def forget(self, one: Waiting) -> None:
        """Look at it no more."""
        self._waiting.discard(one)

    def _look(self) -> None:
        now = self.clock()
        # The next look comes even where a callback fails.
        self._timer = self._loop.call_later(INTERVAL_SECONDS, self._look)
        for one in [one for one in self._waiting if one.deadline <= now]:
            if one in self._waiting:
                one.expired()
