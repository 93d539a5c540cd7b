"""A bounded queue that is fair between tenants ★.

Each tenant has a line of its own, first come first served. Whose turn it is follows from weights: of two tenants that both wait,
one with twice the weight gets two for the other's one, however many each has waiting (stride scheduling). A tenant that comes
later begins where the others are: not having waited before is no credit, and to come back at once is none either.

When the queue is full, whoever has more than its part gives way: the last in the longest line, by weight, is put out for a
newcomer whose line would be shorter. So nobody can fill the queue for all others.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


class QueueFullError(Exception):
    """There is no place, and no line so long that it would have to give one up."""


@dataclass
class _Line(Generic[T]):
    weight: float
    # What it has had so far, in turns per weight.
    pass_: float = 0.0
    items: deque[T] = field(default_factory=deque)

    def length_with(self, more: int) -> float:
        return (len(self.items) + more) / self.weight


class FairQueue(Generic[T]):
    """Holds at most ``limit`` items."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._lines: dict[str, _Line[T]] = {}
        self._count = 0
        # How far the turns have come, and those that have had more and do not wait now.
        self._now = 0.0
        self._ahead: dict[str, float] = {}

    def __len__(self) -> int:
        return self._count

    def offer(self, tenant: str, item: T, weight: float = 1.0) -> T | None:
        """Take ``item`` in; returns the one that had to give way to it. Raises QueueFullError."""
        displaced = self._displaced_by(tenant, weight) if self._count >= self.limit else None
        line = self._lines.get(tenant)
        if line is None:
            line = self._lines[tenant] = _Line(weight, max(self._now, self._ahead.pop(tenant, 0.0)))
        line.weight = weight
        line.items.append(item)
        self._count += 1
        return displaced

    def take(self) -> T:
        """The one whose turn it is. Raises IndexError when the queue is empty."""
        if not self._lines:
            raise IndexError("nothing waits")
        name, line = min(self._lines.items(), key=lambda pair: (pair[1].pass_, pair[0]))
        self._now = line.pass_
        line.pass_ += 1 / line.weight
        item = line.items.popleft()
        self._taken_from(name, line)
        return item

    def remove(self, tenant: str, item: T) -> bool:
        """Take ``item`` out, wherever it stands; whether it was there."""
        line = self._lines.get(tenant)
        if line is None or item not in line.items:
            return False
        line.items.remove(item)
        self._taken_from(tenant, line)
        return True

    def _displaced_by(self, tenant: str, weight: float) -> T:
        own = self._lines.get(tenant)
        wanted = ((len(own.items) if own is not None else 0) + 1) / weight
        others = [(name, line) for name, line in self._lines.items() if name != tenant]
        name, longest = max(others, key=lambda pair: (pair[1].length_with(0), pair[0]), default=("", None))
        if longest is None or longest.length_with(0) <= wanted:
            raise QueueFullError
        item = longest.items.pop()
        self._taken_from(name, longest)
        return item

    def _taken_from(self, name: str, line: _Line[T]) -> None:
        self._count -= 1
        if line.items:
            return
        del self._lines[name]
        self._ahead = {other: had for other, had in self._ahead.items() if had > self._now}
        if line.pass_ > self._now:
            self._ahead[name] = line.pass_
