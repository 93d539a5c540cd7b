"""The one writer of rollups: only the leader records. What the database does not take in time is lost, and counted."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from hashlib import blake2b

import structlog
from prometheus_client import Counter
from studio_runtime.errors import StudioError

from studio_coordinator.leadership import Leadership
from studio_coordinator.store import telemetry as store
from studio_coordinator.store.database import Connection, Database
from studio_coordinator.telemetry.layout import Layout
from studio_coordinator.telemetry.rings import DROPPED, Rings
from studio_coordinator.telemetry.rollup import FINE_SECONDS, Rollup

log = structlog.get_logger()

# One transaction of so many rows takes a tenth of a second.
BATCH = 3_000
# Layouts whose numbers are remembered.
REMEMBERED = 4 * BATCH
DAY = 86_400
LONGEST_LAYOUT_LIFE = max(store.KEPT.values()) + timedelta(days=1)

STORED = Counter("studio_coordinator_rollups_stored_total", "Rollups of telemetry in the database")


@dataclass
class Recorder:
    """Flushes rollups every fine step: two or three statements, however many hosts there are."""

    database: Database
    leadership: Leadership
    rings: Rings
    _ids: dict[Layout, int] = field(default_factory=dict)
    _partitions_for: date | None = None

    async def run(self) -> None:
        """Sweep and flush, until cancelled."""
        while True:
            # Half a step after the rollups fell out.
            await asyncio.sleep(FINE_SECONDS - self.rings.clock() % FINE_SECONDS + FINE_SECONDS / 2)
            self.rings.sweep()
            self.rings.recording = self.leadership.is_leader
            if self.rings.recording:
                await self.flush()

    async def flush(self) -> None:
        """Store what waits. What could not be stored is lost, and counted: telemetry is not worth a queue that grows."""
        while batch := self.rings.take_rollups(BATCH):
            try:
                async with self.database.transaction() as conn:
                    await self._store(conn, batch)
            except StudioError as error:
                DROPPED.inc(len(batch))
                log.warning("rollups_not_stored", rows=len(batch), reason=error.message)
                return
            STORED.inc(len(batch))

    async def _store(self, conn: Connection, batch: list[Rollup]) -> None:
        now = datetime.now(UTC)
        if self._partitions_for != now.date():
            await store.prepare_partitions(conn, now.date())
            await store.forget_layouts(conn, now - LONGEST_LAYOUT_LIFE)
            # Those that were forgotten must not be written to.
            self._ids.clear()
        ids = self._ids | await self._new_ids(conn, (done.layout for done in batch), now)
        by_step: dict[int, list[Rollup]] = defaultdict(list)
        midnight = datetime.combine(now.date(), time(), UTC).timestamp()
        days = store.PARTITIONED_DAYS
        for done in batch:
            # A clock that was wrong must not cost the others their place.
            if midnight + days.start * DAY <= done.start < midnight + days.stop * DAY:
                by_step[done.step].append(done)
        for step, rollups in by_step.items():
            await store.append(
                conn,
                step,
                [
                    (ids[done.layout], datetime.fromtimestamp(done.start, UTC), done.mean, done.highest)
                    for done in rollups
                ],
            )
        self._ids = ids if len(ids) <= REMEMBERED else {done.layout: ids[done.layout] for done in batch}
        self._partitions_for = now.date()

    async def _new_ids(self, conn: Connection, layouts: Iterable[Layout], now: datetime) -> dict[Layout, int]:
        unknown = {layout: digest(layout) for layout in layouts if layout not in self._ids}
        wanted = {
            (layout.host_id, number): [series.key for series in layout.series()] for layout, number in unknown.items()
        }
        found = await store.layout_ids(conn, wanted, now)
        return {layout: found[layout.host_id, number] for layout, number in unknown.items()}


def digest(layout: Layout) -> str:
    """Short for all the names of a layout."""
    names = "\n".join(series.key for series in layout.series())
    return blake2b(names.encode(), digest_size=16).hexdigest()
