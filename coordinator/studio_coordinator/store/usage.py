"""Finished requests, each counted once, and their totals."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import BigInteger, Boolean, Column, ColumnElement, Double, Integer, String, Table, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection
from studio.v1.admin_service_pb2 import UsageTotal
from studio.v1.route_pb2 import UsageRecord
from studio_runtime.errors import InvalidError

from studio_coordinator.store.columns import Instant, from_row, to_row
from studio_coordinator.store.metadata import METADATA

USAGE = Table(
    "usage",
    METADATA,
    Column("request_id", String, primary_key=True),
    Column("gateway_id", String, nullable=False),
    Column("at", Instant, nullable=False, index=True),
    Column("key_id", String, nullable=False),
    Column("model", String, nullable=False),
    Column("replica_id", String, nullable=False),
    Column("path", String, nullable=False),
    Column("status", Integer, nullable=False),
    Column("stream", Boolean, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),
    Column("time_to_first_token_seconds", Double),
    Column("duration_seconds", Double, nullable=False),
    Column("finish", String, nullable=False),
    Column("recipe_revision", Integer, nullable=False),
    Column("tenant", String, nullable=False),
    Column("provider", String, nullable=False),
)

# What totals can be grouped by, and the field of the total that then says which group it is.
GROUPS: dict[str, ColumnElement[str]] = {
    "model": USAGE.c.model,
    "key": USAGE.c.key_id,
    "day": func.to_char(func.timezone("UTC", USAGE.c.at), "YYYY-MM-DD").label("day"),
}

# PostgreSQL takes at most 32,767 parameters in one statement.
ROWS_PER_STATEMENT = 1_000

BAD_STATUS = 400


async def record(conn: AsyncConnection, gateway_id: str, records: Sequence[UsageRecord]) -> int:
    """Store ``records``; one whose request is stored already is left out. Returns how many were new."""
    stored = 0
    for start in range(0, len(records), ROWS_PER_STATEMENT):
        part = records[start : start + ROWS_PER_STATEMENT]
        rows = insert(USAGE).values([to_row(USAGE, item, gateway_id=gateway_id) for item in part])
        stored += len((await conn.execute(rows.on_conflict_do_nothing().returning(USAGE.c.request_id))).all())
    return stored


async def totals(conn: AsyncConnection, since: datetime, group_by: Sequence[str]) -> list[UsageTotal]:
    """Totals of what finished from ``since`` on, by any of model, key and day (UTC); by model when none is named."""
    wanted = list(dict.fromkeys(group_by)) or ["model"]
    if unknown := [name for name in wanted if name not in GROUPS]:
        raise InvalidError(f"usage cannot be grouped by {', '.join(unknown)}", f"Choose from {', '.join(GROUPS)}.")
    groups = [GROUPS[name] for name in wanted]
    first_token = USAGE.c.time_to_first_token_seconds
    figures = (
        func.count().label("requests"),
        func.count().filter(USAGE.c.status >= BAD_STATUS).label("failed"),
        func.sum(USAGE.c.prompt_tokens).cast(BigInteger).label("prompt_tokens"),
        func.sum(USAGE.c.completion_tokens).cast(BigInteger).label("completion_tokens"),
        func.percentile_cont(0.5).within_group(first_token).label("time_to_first_token_p50_seconds"),
        func.percentile_cont(0.95).within_group(first_token).label("time_to_first_token_p95_seconds"),
    )
    query = select(*groups, *figures).where(USAGE.c.at >= since).group_by(*groups).order_by(*groups)
    return [from_row(UsageTotal, row) for row in (await conn.execute(query)).mappings()]
