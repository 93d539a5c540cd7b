"""The network between parties: calls that come late, twice or never, and streams that keep their order and break."""

import random
from collections import defaultdict
from collections.abc import Callable

from sim.schedule import Schedule

LOST, DOUBLED, BROKEN = 0.03, 0.06, 0.02


class Network:
    def __init__(self, schedule: Schedule, chance: random.Random) -> None:
        self.schedule = schedule
        self._chance = chance
        self.cut_off: set[str] = set()
        # Off once everything is to come to rest.
        self.is_bad = True
        # What was under way in an earlier era arrives no more.
        self.era = 0

    def call(self, caller: str, called: str, deliver: Callable[[], None]) -> None:
        """Somebody dials: the other end hears of it once, twice (it was tried again), or never."""
        draw = self._chance.random() if self.is_bad else 1.0
        if self.is_apart(caller, called) or draw < LOST:
            return
        for _ in range(2 if draw < DOUBLED else 1):
            self.schedule.after(self.delay(), lambda: None if self.is_apart(caller, called) else deliver())

    def is_apart(self, one: str, other: str) -> bool:
        return bool(self.cut_off & {one, other})

    def breaks(self) -> bool:
        return self.is_bad and self._chance.random() < BROKEN

    def delay(self) -> float:
        slow = self.is_bad and self._chance.random() < 0.2
        return min(self._chance.expovariate(0.2 if slow else 4.0), 30.0)


class Stream:
    """A connection: what one end says arrives in order, until it breaks.

    Who is cut off does not see that; both ends see one that broke. What was under way when it broke may still arrive, also after
    what was said on the stream that took its place.
    """

    def __init__(self, network: Network, one: str, other: str) -> None:
        self._network, self._ends = network, (one, other)
        self.is_open = True
        self._era = network.era
        self.on_close: list[Callable[[], None]] = []
        # When the last message to each end arrives.
        self._arrives: dict[str, float] = defaultdict(float)

    def send(self, receiver: str, deliver: Callable[[], None]) -> None:
        network = self._network
        if not self.is_open:
            return
        if network.is_apart(*self._ends):
            self.is_open = False
            return
        if network.breaks():
            self.close()
            return
        now = network.schedule.now
        # What is due at the same moment has no order.
        self._arrives[receiver] = at = max(now + network.delay(), self._arrives[receiver] + 1e-6)
        network.schedule.after(at - now, lambda: self._arrive(deliver))

    def close(self) -> None:
        if self.is_open:
            self.is_open = False
            for told in self.on_close:
                told()

    def _arrive(self, deliver: Callable[[], None]) -> None:
        if self._network.is_apart(*self._ends):
            self.is_open = False
        elif self._era == self._network.era:
            deliver()
