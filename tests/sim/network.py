"""Messages between parties: late, doubled, out of order, or lost; never between parties that are cut off from one another."""

import random
from collections.abc import Callable

from sim.schedule import Schedule


class Network:
    def __init__(self, schedule: Schedule, chance: random.Random) -> None:
        self._schedule = schedule
        self._chance = chance
        self.cut_off: set[str] = set()
        # Off once everything is to come to rest.
        self.is_bad = True

    def send(self, sender: str, receiver: str, deliver: Callable[[], None]) -> None:
        if self.cut_off & {sender, receiver}:
            return
        draw = self._chance.random() if self.is_bad else 1.0
        if draw < 0.03:
            return
        for _ in range(2 if draw < 0.06 else 1):
            late = self._chance.expovariate(4.0 if draw > 0.2 else 0.2)
            self._schedule.after(min(late, 30.0), lambda: self._arrive(sender, receiver, deliver))

    def _arrive(self, sender: str, receiver: str, deliver: Callable[[], None]) -> None:
        if not self.cut_off & {sender, receiver}:
            deliver()
