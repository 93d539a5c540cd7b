"""How long to wait before the next try: full jitter, so that a fleet does not come back in one wave.

The first try after a loss is made at once and the next few within a second each: a coordinator that was only restarted is found
again before anybody asks. From then on the wait is anywhere between 0 and twice as much each time, at most 30 s. A connection
that held for a minute starts the count anew; one that is turned away at once does not.
"""

from collections.abc import Callable
from dataclasses import dataclass

QUICK_TRIES = 5
LONGEST_WAIT_SECONDS = 30.0
STABLE_SECONDS = 60.0


@dataclass
class Backoff:
    """Counts failures; ``uniform`` draws from a range (``random.uniform``)."""

    uniform: Callable[[float, float], float]
    failures: int = 0

    def next_wait(self, held_seconds: float, asked_seconds: float = 0.0) -> float:
        """Seconds to wait after a connection that held for ``held_seconds``; the server may have asked for more."""
        if held_seconds >= STABLE_SECONDS:
            self.failures = 0
        failures, self.failures = self.failures, self.failures + 1
        if failures == 0:
            return asked_seconds
        longest = min(LONGEST_WAIT_SECONDS, 2.0 ** max(0, failures - QUICK_TRIES))
        return asked_seconds + self.uniform(0.0, longest)
