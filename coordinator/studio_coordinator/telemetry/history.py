"""Series over time: the newest quarter of an hour from the rings, what is older from the database."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import ceil, isnan
from typing import NamedTuple

from studio_runtime.errors import InvalidError

from studio_coordinator.store import telemetry as store
from studio_coordinator.store.database import Database
from studio_coordinator.telemetry.block import ROWS
from studio_coordinator.telemetry.fields import KINDS, UNKNOWN
from studio_coordinator.telemetry.layout import Series
from studio_coordinator.telemetry.ring import KEPT_SECONDS
from studio_coordinator.telemetry.rings import Rings
from studio_coordinator.telemetry.rollup import COARSE_SECONDS, FINE_SECONDS

MOST_SERIES = 64
# Of one series in one answer.
MOST_POINTS = 10_000


class Sample(NamedTuple):
    """What is known of one series at one time, in its own unit."""

    # Seconds since 1970.
    at: int
    mean: float
    highest: float


@dataclass(frozen=True)
class Window:
    """What is asked for: seconds since 1970, the end left out, and the length of a step in seconds."""

    since: int
    until: int
    step: int


def window_for(now: int, since: int, until: int, step: int = 0) -> Window:
    """The window to answer for; ``until`` 0 is now, ``step`` 0 the finest there is for the whole time.

    Raises InvalidError where the times are in the wrong order or would give too many points.
    """
    until = until or now + 1
    if since >= until:
        raise InvalidError("the history asked for ends before it begins", "Give a since that is before until.")
    finest = _finest(now - since)
    # Whole steps of what is kept.
    step = ceil(step / finest) * finest if step else finest
    if not step % COARSE_SECONDS and step > COARSE_SECONDS:
        finest = COARSE_SECONDS
    if (until - since) / step > MOST_POINTS:
        raise InvalidError(
            f"the history asked for has more than {MOST_POINTS:,} points", "Ask for a longer step or a shorter time."
        )
    return Window(since // step * step, until, step)


def _finest(age_seconds: int) -> int:
    if age_seconds <= KEPT_SECONDS:
        return 1
    return FINE_SECONDS if age_seconds <= store.KEPT[FINE_SECONDS].total_seconds() else COARSE_SECONDS


def in_steps(samples: Iterable[Sample], step: int) -> list[Sample]:
    """Samples joined to steps: the mean of their means, and the highest of all. In the order of time."""
    buckets: dict[int, list[Sample]] = defaultdict(list)
    for sample in samples:
        buckets[sample.at - sample.at % step].append(sample)
    return [
        Sample(at, sum(item.mean for item in found) / len(found), max(item.highest for item in found))
        for at, found in sorted(buckets.items())
    ]


def known_series(kind: str, name: str, field: str) -> Series:
    """The series with these names; InvalidError, with those that are kept, where there is none."""
    if kind not in KINDS:
        raise InvalidError(f"there is no history of a {kind!r}", f"Kinds: {', '.join(KINDS)}.")
    fields = [item.name for item in KINDS[kind].fields]
    if field not in fields:
        raise InvalidError(f"no history is kept of {field!r} of a {kind}", f"Kept are: {', '.join(fields)}.")
    return Series(kind, name, field)


@dataclass(frozen=True)
class History:
    """Answers from memory and, where that does not reach, from the database."""

    rings: Rings
    database: Database

    async def read(self, wanted: Sequence[Series], window: Window) -> Mapping[Series, list[Sample]]:
        """The points of each series; UnavailableError when the database is needed and away."""
        if len(wanted) > MOST_SERIES:
            raise InvalidError(f"{len(wanted)} series at once, at most {MOST_SERIES}", "Ask for fewer.")
        recent = {series: self._from_rings(series, window) for series in wanted}
        # What the rings begin with belongs to a step that the database may know better; the next one is theirs alone.
        first = min((found[0].at for found in recent.values() if found), default=window.until)
        border = ceil(first / window.step) * window.step if first > window.since else window.since
        if window.step % FINE_SECONDS == 0 and border > window.since:
            older = await self._from_database(wanted, Window(window.since, border, window.step))
        else:
            border, older = window.since, {}
        return {
            series: in_steps([*older.get(series, ()), *(s for s in recent[series] if s.at >= border)], window.step)
            for series in wanted
        }

    def _from_rings(self, series: Series, window: Window) -> list[Sample]:
        found = []
        for block in self.rings.blocks():
            if block.start + ROWS <= window.since or block.start >= window.until:
                continue
            place = block.layout.place(series)
            if place is None:
                continue
            step = block.layout.fields[place].step
            for second, row in enumerate(block.rows(0, ROWS), block.start):
                if row[place] != UNKNOWN and window.since <= second < window.until:
                    found.append(Sample(second, row[place] * step, row[place] * step))
        return sorted(found)

    async def _from_database(self, wanted: Sequence[Series], window: Window) -> Mapping[Series, list[Sample]]:
        fine = self.rings.clock() - window.since <= store.KEPT[FINE_SECONDS].total_seconds()
        table = FINE_SECONDS if fine and window.step % COARSE_SECONDS else COARSE_SECONDS
        by_name = {series.key: series for series in wanted}
        async with self.database.transaction() as conn:
            points = await store.read(
                conn, table, list(by_name), *(datetime.fromtimestamp(t, UTC) for t in (window.since, window.until))
            )
        found: dict[Series, list[Sample]] = defaultdict(list)
        for point in points:
            if not isnan(point.mean):
                found[by_name[point.name]].append(Sample(int(point.at.timestamp()), point.mean, point.highest))
        return found
