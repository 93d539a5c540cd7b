"""When each deployment was last asked for, as far as the gateways said: the idle ladder goes on from there under a new leader."""

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import Column, ForeignKey, String, Table, func, select
from sqlalchemy.dialects.postgresql import TIMESTAMP, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from studio_coordinator.store.deployments import DEPLOYMENTS
from studio_coordinator.store.metadata import METADATA

LAST_REQUESTS = Table(
    "last_requests",
    METADATA,
    Column("deployment", String, ForeignKey("deployments.name", ondelete="CASCADE"), primary_key=True),
    Column("at", TIMESTAMP(timezone=True), nullable=False),
)


async def last_requests(conn: AsyncConnection) -> dict[str, datetime]:
    """By deployment; those that nobody asked for yet are left out."""
    rows = await conn.execute(select(LAST_REQUESTS.c.deployment, LAST_REQUESTS.c.at))
    return {row.deployment: row.at for row in rows}


async def note_requests(conn: AsyncConnection, times: Mapping[str, datetime]) -> None:
    """Keep the later one of each; deployments that are gone meanwhile are passed over."""
    known = select(DEPLOYMENTS.c.name).where(DEPLOYMENTS.c.name.in_(times)).with_for_update(key_share=True)
    names = sorted((await conn.execute(known)).scalars())
    if not names:
        return
    fresh = insert(LAST_REQUESTS).values([{"deployment": name, "at": times[name]} for name in names])
    later = func.greatest(LAST_REQUESTS.c.at, fresh.excluded.at)
    await conn.execute(fresh.on_conflict_do_update(index_elements=["deployment"], set_={"at": later}))
