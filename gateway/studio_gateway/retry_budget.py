"""How many requests may be sent a second time ★: one in five, and a few more at first.

When every engine fails, each retry is one more request to what is already failing.
"""

from dataclasses import dataclass

SHARE = 0.2
RESERVE = 20.0


@dataclass(slots=True)
class RetryBudget:
    """Earned by requests, spent by retries."""

    left: float = RESERVE

    def earn(self) -> None:
        """A request has come."""
        self.left = min(RESERVE, self.left + SHARE)

    def spend(self) -> bool:
        """Whether there may be one more retry."""
        if self.left < 1:
            return False
        self.left -= 1
        return True
