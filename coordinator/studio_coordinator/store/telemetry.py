"""Rollups of telemetry: two tables partitioned by day, and the names of what their arrays hold.

A row is all of one host over one step; what its arrays mean is said once, in ``telemetry_layouts``. So the number of statements
and rows does not grow with figures, GPUs or replicas. Partitions are made ahead and dropped whole.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import ARRAY, REAL, BigInteger, Column, Identity, Index, String, Table, UniqueConstraint, text
from sqlalchemy.ext.asyncio import AsyncConnection

from studio_coordinator.store.columns import Instant
from studio_coordinator.store.database import STATEMENTS
from studio_coordinator.store.metadata import METADATA

LAYOUTS = Table(
    "telemetry_layouts",
    METADATA,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("host_id", String, nullable=False),
    # Of the names, so that a unique index stays small.
    Column("digest", String, nullable=False),
    # What each place of the arrays is: kind/id/field.
    Column("names", ARRAY(String), nullable=False),
    Column("first_used", Instant, nullable=False),
    UniqueConstraint("host_id", "digest", name="telemetry_layouts_host_id_digest_key"),
    Index("telemetry_layouts_names_idx", "names", postgresql_using="gin"),
)

# Step in seconds to its table and how long it is kept.
TABLES: Mapping[int, str] = {10: "telemetry_10s", 60: "telemetry_1m"}
KEPT: Mapping[int, timedelta] = {10: timedelta(days=2), 60: timedelta(days=30)}
COLUMNS = ("layout_id", "at", "mean", "highest")

ROLLUPS = {
    step: Table(
        name,
        METADATA,
        Column("layout_id", BigInteger, nullable=False),
        Column("at", Instant, nullable=False),
        # Single precision; NaN where nothing is known.
        Column("mean", ARRAY(REAL), nullable=False),
        Column("highest", ARRAY(REAL), nullable=False),
        Index(f"{name}_layout_id_at_idx", "layout_id", "at"),
        postgresql_partition_by="RANGE (at)",
    )
    for step, name in TABLES.items()
}

# An update that changes nothing, so that rows which are there already are returned as well.
MAKE_LAYOUTS = text(
    "INSERT INTO telemetry_layouts (host_id, digest, names, first_used)"
    " SELECT host_id, digest, string_to_array(names, chr(10)), CAST(:now AS timestamptz) FROM unnest("
    "CAST(:hosts AS text[]), CAST(:digests AS text[]), CAST(:names AS text[])) AS given (host_id, digest, names)"
    " ON CONFLICT (host_id, digest) DO UPDATE SET digest = excluded.digest RETURNING host_id, digest, id"
)

READ = {
    step: text(
        "SELECT named.name, rollups.at, rollups.mean[named.place] AS mean, rollups.highest[named.place] AS highest"  # noqa: S608 - the table's name is one of ours
        # Which place each asked name has in each layout.
        " FROM telemetry_layouts AS layouts"
        " CROSS JOIN LATERAL unnest(layouts.names) WITH ORDINALITY AS named (name, place)"
        f" JOIN {table} AS rollups ON rollups.layout_id = layouts.id"
        " WHERE layouts.names && CAST(:names AS varchar[]) AND named.name = ANY(CAST(:names AS varchar[]))"
        " AND rollups.at >= :since AND rollups.at < :until ORDER BY rollups.at"
    )
    for step, table in TABLES.items()
}

# Days that can be written to, from today on.
PARTITIONED_DAYS = range(-1, 2)

Record = tuple[int, datetime, Sequence[float], Sequence[float]]


@dataclass(frozen=True)
class StoredPoint:
    """One series over one step."""

    name: str
    at: datetime
    mean: float
    highest: float


async def layout_ids(
    conn: AsyncConnection, wanted: Mapping[tuple[str, str], Sequence[str]], now: datetime
) -> dict[tuple[str, str], int]:
    """The numbers of layouts, by host id and digest of their names; new ones are made. One statement for all."""
    if not wanted:
        return {}
    given = {
        "hosts": [host_id for host_id, _ in wanted],
        "digests": [digest for _, digest in wanted],
        # Arrays of different lengths are no array of arrays. Names hold no line ends.
        "names": ["\n".join(names) for names in wanted.values()],
        "now": now,
    }
    found = await conn.execute(MAKE_LAYOUTS, given)
    return {(row.host_id, row.digest): int(row.id) for row in found}


async def append(conn: AsyncConnection, step: int, records: Sequence[Record]) -> None:
    """Add rows with COPY; their partitions must be there."""
    raw = await conn.get_raw_connection()
    driver: Any = raw.driver_connection
    STATEMENTS.inc()
    await driver.copy_records_to_table(TABLES[step], records=records, columns=COLUMNS)


async def prepare_partitions(conn: AsyncConnection, today: date) -> None:
    """Have partitions from yesterday to tomorrow, and drop those past their time: what began before midnight ends after it."""
    for step, table in TABLES.items():
        present = await _partitions(conn, table)
        for day in (today + timedelta(days=ahead) for ahead in PARTITIONED_DAYS):
            if _partition(table, day) not in present:
                await conn.execute(
                    text(
                        f"CREATE TABLE IF NOT EXISTS {_partition(table, day)} PARTITION OF {table} "
                        f"FOR VALUES FROM ('{day} 00:00+00') TO ('{day + timedelta(days=1)} 00:00+00')"
                    )
                )
        oldest = _partition(table, today - KEPT[step])
        for name in sorted(present):
            # Names order as their days do.
            if name < oldest:
                await conn.execute(text(f"DROP TABLE IF EXISTS {name}"))


async def forget_layouts(conn: AsyncConnection, before: datetime) -> int:
    """Remove layouts that were first used ``before`` and have no rollup any more; how many."""
    removed = await conn.execute(
        text(
            "DELETE FROM telemetry_layouts AS old WHERE first_used < :before"
            " AND NOT EXISTS (SELECT FROM telemetry_1m WHERE layout_id = old.id)"
            " AND NOT EXISTS (SELECT FROM telemetry_10s WHERE layout_id = old.id)"
        ),
        {"before": before},
    )
    return int(removed.rowcount)


async def read(
    conn: AsyncConnection, step: int, names: Sequence[str], since: datetime, until: datetime
) -> list[StoredPoint]:
    """The points of the named series, oldest first. One statement."""
    found = await conn.execute(READ[step], {"names": list(names), "since": since, "until": until})
    return [StoredPoint(row.name, row.at, row.mean, row.highest) for row in found]


def _partition(table: str, day: date) -> str:
    return f"{table}_{day:%Y%m%d}"


async def _partitions(conn: AsyncConnection, table: str) -> set[str]:
    query = text("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = CAST(:name AS regclass)")
    return set((await conn.execute(query, {"name": table})).scalars())
