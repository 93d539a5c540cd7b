"""Which rows of a table were written since one looked last: so that thousands need not be read again to find one.

A row's ``changed_in`` is the transaction that wrote it last (migration 0008). A look returns its *horizon*: every transaction
below it has ended, so that whatever the next look has not seen was written at or above it. What deletes rows, or brings others
back as a restored backup does, shows in the sum over the table, which each look returns as well.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection


class Watched(StrEnum):
    """The tables that can be looked at, by the name of their key."""

    HOSTS = "hosts"
    ASSIGNMENTS = "assignments"


KEYS = {Watched.HOSTS: "id", Watched.ASSIGNMENTS: "host_id"}

LOOKS = {
    table: (
        f"SELECT '{table}' AS looked, pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS horizon, whole.total,"  # noqa: S608 - names are ours
        f" watched.{key} AS key, watched.changed_in FROM"
        f" (SELECT coalesce(sum(changed_in), 0)::text AS total FROM {table}) AS whole"
        f" LEFT JOIN {table} AS watched ON watched.changed_in >= :{table}"
    )
    for table, key in KEYS.items()
}


@dataclass(frozen=True)
class Look:
    """What was found."""

    # Where the next look begins.
    horizon: int
    # Of ``changed_in`` over the whole table.
    total: int
    # Key to ``changed_in`` of the rows that were written since, and perhaps of some before.
    stamps: Mapping[str, int]


async def look(conn: AsyncConnection, since: Mapping[Watched, int]) -> dict[Watched, Look]:
    """The rows of the tables in ``since`` that were written since the look with that horizon; 0: all of them.

    One statement, and so one moment.
    """
    query = text(" UNION ALL ".join(LOOKS[table] for table in sorted(since)))
    rows = (await conn.execute(query, {str(table): horizon for table, horizon in since.items()})).all()
    found = {}
    for table in since:
        mine = [row for row in rows if row.looked == table]
        stamps = {row.key: row.changed_in for row in mine if row.key is not None}
        found[table] = Look(mine[0].horizon, int(mine[0].total), stamps)
    return found
