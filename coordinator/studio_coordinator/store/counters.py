"""Numbers that rise with every change.

Raising a counter locks its row until the transaction ends, so that numbers become visible in the order in which they were
given: who has read up to N never misses a smaller number that is committed later.
"""

from sqlalchemy import BigInteger, Column, String, Table, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from studio_coordinator.store.metadata import METADATA

EVENTS = "events"
ACCESS = "access"

COUNTERS = Table(
    "counters",
    METADATA,
    Column("name", String, primary_key=True),
    Column("value", BigInteger, nullable=False),
)


async def raise_counter(conn: AsyncConnection, name: str, by: int = 1) -> int:
    """Add ``by`` to the counter ``name``; returns its new value."""
    raised = update(COUNTERS).where(COUNTERS.c.name == name).values(value=COUNTERS.c.value + by)
    return int((await conn.execute(raised.returning(COUNTERS.c.value))).scalar_one())


async def counter(conn: AsyncConnection, name: str) -> int:
    """The value of the counter ``name``."""
    return int((await conn.execute(select(COUNTERS.c.value).where(COUNTERS.c.name == name))).scalar_one())
