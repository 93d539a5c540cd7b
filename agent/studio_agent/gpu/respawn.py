"""When the sampler's next child may start. Pure.

A child in a hanging driver call cannot be ended, and killing it in a loop can freeze the GPU it reads. So it is let go,
at most one such child may be left while a new one tries, and tries become rare: the delay doubles, and their number in
any hour is bounded.
"""

from collections.abc import Sequence
from dataclasses import dataclass

HOUR_SECONDS = 3600.0


@dataclass(frozen=True)
class Patience:
    """Limits on children, in seconds where not said otherwise."""

    # From a child's start to its first frame: a driver without persistence takes long to wake many GPUs.
    start_seconds: float = 60.0
    # From frame to frame; beyond it the child counts as hanging.
    hang_seconds: float = 10.0
    # A child that lasted this long wipes out earlier failures.
    settled_seconds: float = 60.0
    first_delay_seconds: float = 1.0
    longest_delay_seconds: float = 600.0
    starts_per_hour: int = 12
    live_children: int = 2


@dataclass(frozen=True)
class History:
    """What became of earlier children; times on one monotonic clock, in seconds."""

    # Children in a row that failed before they settled.
    failures: int = 0
    # When the last of them failed.
    failed_at: float = 0.0
    starts: Sequence[float] = ()
    # Children that were let go and still live.
    left_behind: int = 0


def seconds_until_start(history: History, now: float, patience: Patience) -> float | None:
    """How long to wait before the next child, 0 for no time; None: not before one of those left behind has ended."""
    if history.left_behind >= patience.live_children:
        return None
    earliest = now
    if history.failures:
        # Bounded before it is raised: no float is that large.
        doublings = min(history.failures - 1, 32)
        delay = min(patience.longest_delay_seconds, patience.first_delay_seconds * 2.0**doublings)
        earliest = history.failed_at + delay
    recent = sorted(start for start in history.starts if start > now - HOUR_SECONDS)
    if len(recent) >= patience.starts_per_hour:
        earliest = max(earliest, recent[-patience.starts_per_hour] + HOUR_SECONDS)
    return max(0.0, earliest - now)
