"""How late the event loop is: everything else waits as long."""

import asyncio
from collections import deque

from prometheus_client import Gauge, Histogram

INTERVAL_SECONDS = 0.05
WINDOW_SECONDS = 60.0

LAG = Histogram(
    "studio_coordinator_loop_lag_seconds",
    "How much later than asked for the event loop woke a task",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5),
)
LONGEST = Gauge("studio_coordinator_loop_lag_longest_seconds", "The longest of the last minute")


async def watch_lag() -> None:
    """Sleep and look at the clock, until cancelled."""
    loop = asyncio.get_running_loop()
    # Values fall from the first to the last, as times rise: the first is the longest of the window.
    longest: deque[tuple[float, float]] = deque()
    while True:
        due = loop.time() + INTERVAL_SECONDS
        await asyncio.sleep(INTERVAL_SECONDS)
        now = loop.time()
        late = max(0.0, now - due)
        LAG.observe(late)
        while longest and longest[-1][1] <= late:
            longest.pop()
        longest.append((now, late))
        while now - longest[0][0] > WINDOW_SECONDS:
            longest.popleft()
        LONGEST.set(longest[0][1])
