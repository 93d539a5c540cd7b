"""How many refusals may be entered in the audit log ★: whoever can open a connection must not be able to fill the disk."""

from dataclasses import dataclass


@dataclass
class Allowance:
    """A bucket of ``burst`` refusals, of which ``per_minute`` come back in a minute; those that find it empty are counted."""

    burst: float
    per_minute: float
    _left: float = 0.0
    _seen_at: float | None = None
    _left_out: int = 0

    def take(self, now: float) -> int | None:
        """How many were left out since the last one that was not; None where this one is to be left out too.

        ``now`` in seconds, of a clock that never goes back.
        """
        grown = self.burst if self._seen_at is None else (now - self._seen_at) * self.per_minute / 60
        self._left, self._seen_at = min(self.burst, self._left + grown), now
        if self._left < 1:
            self._left_out += 1
            return None
        self._left -= 1
        left_out, self._left_out = self._left_out, 0
        return left_out
