"""How long to leave a hub alone that refuses. Pure."""

from datetime import datetime
from email.utils import parsedate_to_datetime

# Waits double from one second up to this.
LONGEST_OWN_SECONDS = 60.0
# A hub that asks for more is not waited for.
LONGEST_ASKED_SECONDS = 900.0


def asked_seconds(retry_after: str, now: datetime) -> float:
    """What a Retry-After header asks for, in its form as seconds or as a date; 0 where it says nothing that can be read."""
    if retry_after.isdigit():
        return float(retry_after)
    try:
        return max(0.0, (parsedate_to_datetime(retry_after) - now).total_seconds())
    except (ValueError, TypeError):
        return 0.0


def next_wait(failures: int, most_failures: int, asked: float) -> float | None:
    """Seconds until the next try after ``failures`` in a row; None: give up."""
    if failures >= most_failures or asked > LONGEST_ASKED_SECONDS:
        return None
    return max(asked, min(LONGEST_OWN_SECONDS, 2.0 ** (failures - 1)))
