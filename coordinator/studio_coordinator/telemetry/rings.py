"""The rings of all hosts, and the rollups that wait for the database.

Bounded: a closed minute of 2,000 hosts of 8 GPUs takes 2 MB or so; rollups that the database does not take are dropped, oldest
first, and counted.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator

from prometheus_client import Counter, Gauge
from studio.v1.agent_service_pb2 import ReportTelemetryRequest

from studio_coordinator.telemetry.block import ROWS, Block
from studio_coordinator.telemetry.ring import Ring
from studio_coordinator.telemetry.rollup import Rollup

# A minute and a half of 2,000 hosts.
BACKLOG = 21_000

RING_BYTES = Gauge("studio_coordinator_telemetry_ring_bytes", "Memory that the values in the rings of telemetry take")
DROPPED = Counter(
    "studio_coordinator_rollups_dropped_total", "Rollups of telemetry that the database did not take in time"
)


def steady_clock() -> Callable[[], int]:
    """Seconds since 1970 that never go back: the wall clock of now, carried on by the monotonic one."""
    offset = time.time() - time.monotonic()
    return lambda: int(offset + time.monotonic())


class Rings:
    """Takes reports; hands out blocks and rollups. ``clock`` gives whole seconds since 1970."""

    def __init__(self, clock: Callable[[], int] | None = None) -> None:
        self.clock = clock or steady_clock()
        # Whether anybody will store rollups.
        self.recording = False
        self._rings: dict[str, Ring] = {}
        self._heard: dict[str, int] = {}
        self._rollups: deque[Rollup] = deque()

    def take(self, host_id: str, figures: ReportTelemetryRequest) -> None:
        """Keep a report. Never waits."""
        ring = self._rings.get(host_id)
        if ring is None:
            ring = self._rings[host_id] = Ring(host_id, self._emit)
        now = self._heard[host_id] = self.clock()
        ring.put(now, figures)

    def sweep(self) -> None:
        """Close what silent hosts left open, and forget those that are gone for longer than rings last."""
        now = self.clock()
        for host_id, heard in list(self._heard.items()):
            if now - heard < ROWS:
                continue
            ring = self._rings[host_id]
            ring.suspend()
            ring.advance(now)
            if ring.is_empty:
                del self._rings[host_id], self._heard[host_id]
        RING_BYTES.set(self.size_bytes)

    def take_rollups(self, at_most: int) -> list[Rollup]:
        """The oldest rollups that wait; they are the caller's now."""
        return [self._rollups.popleft() for _ in range(min(at_most, len(self._rollups)))]

    def __len__(self) -> int:
        return len(self._rollups)

    def blocks(self) -> Iterator[Block]:
        """The blocks of all hosts, oldest first for each host."""
        for ring in self._rings.values():
            yield from ring.blocks()

    @property
    def size_bytes(self) -> int:
        """Memory that the values of all rings take."""
        return sum(ring.size_bytes for ring in self._rings.values())

    def _emit(self, done: Rollup) -> None:
        if not self.recording:
            return
        if len(self._rollups) >= BACKLOG:
            self._rollups.popleft()
            DROPPED.inc()
        self._rollups.append(done)
