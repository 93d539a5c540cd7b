"""Which secret the API keys are hashed with: a check value, so that a coordinator with another secret is turned away."""

from sqlalchemy import CheckConstraint, Column, Integer, LargeBinary, Table, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from studio_coordinator.store.metadata import METADATA

KEY_PEPPER = Table(
    "key_pepper",
    METADATA,
    Column("id", Integer, CheckConstraint("id = 1", name="single_row"), primary_key=True, autoincrement=False),
    Column("check_value", LargeBinary, nullable=False),
)


async def agree(conn: AsyncConnection, check_value: bytes) -> bool:
    """Whether ``check_value`` is the one on record; the first that is asked for is put on record."""
    first = insert(KEY_PEPPER).values(id=1, check_value=check_value).on_conflict_do_nothing()
    await conn.execute(first)
    return bytes((await conn.execute(select(KEY_PEPPER.c.check_value))).scalar_one()) == check_value
