"""Virtual time: what is to happen when, in one order that depends on nothing but the seed."""

import heapq
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count

START = datetime(2026, 1, 1, tzinfo=UTC)


class Schedule:
    def __init__(self) -> None:
        # Seconds since START.
        self.now = 0.0
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()

    def after(self, seconds: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (self.now + seconds, next(self._numbers), what))

    def every(self, seconds: float, what: Callable[[], None]) -> None:
        def again() -> None:
            self.after(seconds, again)
            what()

        self.after(seconds, again)

    def step(self) -> None:
        """Let the next thing happen."""
        self.now, _, what = heapq.heappop(self._queue)
        what()

    def wall(self) -> datetime:
        return START + timedelta(seconds=self.now)
