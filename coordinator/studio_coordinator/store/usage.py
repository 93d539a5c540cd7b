"""Finished requests, each counted once, and their totals."""

from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy import BigInteger, Boolean, Column, ColumnElement, Double, Integer, String, Table, delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection
from studio.v1.admin_service_pb2 import UsageTotal
from studio.v1.route_pb2 import UsageRecord
from studio_runtime.errors import InvalidError

from studio_coordinator.store import access, prices
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
    Column("queue_seconds", Double, nullable=False, server_default="0"),
    Column("inter_token_seconds", Double),
    # By the prices of the moment it was stored.
    Column("cost_micros", BigInteger, nullable=False, server_default="0"),
    # Whose the key was when it was stored.
    Column("user", String, nullable=False, server_default=""),
)

# What totals can be grouped by, and the field of the total that then says which group it is.
GROUPS: dict[str, ColumnElement[str]] = {
    "tenant": USAGE.c.tenant,
    "user": USAGE.c.user,
    "model": USAGE.c.model,
    "key": USAGE.c.key_id,
    "day": func.to_char(func.timezone("UTC", USAGE.c.at), "YYYY-MM-DD").label("day"),
}

# PostgreSQL takes at most 32,767 parameters in one statement.
ROWS_PER_STATEMENT = 1_000

BAD_STATUS = 400
# Ends of a stream whose status was 200: it ended with an error event.
BROKEN_OFF = ("upstream_error", "timeout", "engine_error", "gateway_error", "shutting_down")
# A statement must not take longer than the database allows it.
ROWS_PRUNED = 20_000


async def record(conn: AsyncConnection, gateway_id: str, records: Sequence[UsageRecord]) -> int:
    """Store ``records``; one whose request is stored already is left out. Returns how many were new.

    What each cost, and whose its key is, is told here, as of this moment, whatever the gateway says.
    """
    by_model = {price.model: price for price in await prices.list_prices(conn)}
    users = await access.users_of_keys(conn, {item.key_id for item in records})
    stored = 0
    for start in range(0, len(records), ROWS_PER_STATEMENT):
        part = records[start : start + ROWS_PER_STATEMENT]
        values = [
            to_row(
                USAGE,
                item,
                gateway_id=gateway_id,
                cost_micros=prices.cost_micros(by_model.get(item.model), item),
                user=users.get(item.key_id, ""),
            )
            for item in part
        ]
        rows = insert(USAGE).values(values)
        stored += len((await conn.execute(rows.on_conflict_do_nothing().returning(USAGE.c.request_id))).all())
    uses: dict[str, datetime] = {}
    for item in records:
        at = item.at.ToDatetime(UTC)
        uses[item.key_id] = max(at, uses.get(item.key_id, at))
    await access.note_use(conn, uses)
    return stored


async def totals(
    conn: AsyncConnection, since: datetime, group_by: Sequence[str], until: datetime | None = None, tenant: str = ""
) -> list[UsageTotal]:
    """Totals of what began from ``since`` on and before ``until``, by any of ``GROUPS``; by model when none is named.

    With ``tenant``, only what its keys asked for.
    """
    wanted = list(dict.fromkeys(group_by)) or ["model"]
    if unknown := [name for name in wanted if name not in GROUPS]:
        raise InvalidError(f"usage cannot be grouped by {', '.join(unknown)}", f"Choose from {', '.join(GROUPS)}.")
    groups = [GROUPS[name] for name in wanted]
    figures = (
        func.count().label("requests"),
        func.count().filter((USAGE.c.status >= BAD_STATUS) | USAGE.c.finish.in_(BROKEN_OFF)).label("failed"),
        func.sum(USAGE.c.prompt_tokens).cast(BigInteger).label("prompt_tokens"),
        func.sum(USAGE.c.completion_tokens).cast(BigInteger).label("completion_tokens"),
        func.sum(USAGE.c.cached_tokens).cast(BigInteger).label("cached_tokens"),
        func.sum(USAGE.c.cost_micros).cast(BigInteger).label("cost_micros"),
        *_spread(USAGE.c.time_to_first_token_seconds, "time_to_first_token"),
        *_spread(USAGE.c.inter_token_seconds, "inter_token"),
        *_spread(USAGE.c.duration_seconds, "duration"),
    )
    counted = USAGE.c.at >= since
    if until is not None:
        counted &= USAGE.c.at < until
    if tenant:
        counted &= USAGE.c.tenant == tenant
    query = select(*groups, *figures).where(counted).group_by(*groups).order_by(*groups)
    return [from_row(UsageTotal, row) for row in (await conn.execute(query)).mappings()]


def _spread(column: Column[float], name: str) -> list[ColumnElement[float]]:
    """What half, 95 % and 99 % of the values stay below; where a value is absent it does not count."""
    return [
        func.percentile_cont(percent / 100).within_group(column).label(f"{name}_p{percent}_seconds")
        for percent in (50, 95, 99)
    ]


async def prune(conn: AsyncConnection, before: datetime) -> int:
    """Remove requests from before ``before``, some thousands at a time; returns how many."""
    oldest = select(USAGE.c.request_id).where(USAGE.c.at < before).limit(ROWS_PRUNED)
    return (await conn.execute(delete(USAGE).where(USAGE.c.request_id.in_(oldest)))).rowcount
