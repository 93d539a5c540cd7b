"""Which master key the sealed rows are sealed with: a check value, so that a coordinator with another key is turned away."""

from collections.abc import Collection

from sqlalchemy import CheckConstraint, Column, Integer, LargeBinary, Table, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from studio_coordinator.store.metadata import METADATA

MASTER_KEY = Table(
    "master_key",
    METADATA,
    Column("id", Integer, CheckConstraint("id = 1", name="single_row"), primary_key=True, autoincrement=False),
    Column("check_value", LargeBinary, nullable=False),
)


async def agree(conn: AsyncConnection, current: bytes, known: Collection[bytes]) -> bool:
    """Whether the key on record is one of ``known``; ``current``, the one that seals from now on, is put on record.

    The first that is asked for is put on record as it is.
    """
    await conn.execute(insert(MASTER_KEY).values(id=1, check_value=current).on_conflict_do_nothing())
    recorded = bytes((await conn.execute(select(MASTER_KEY.c.check_value).with_for_update())).scalar_one())
    if recorded not in known:
        return False
    if recorded != current:
        await conn.execute(update(MASTER_KEY).values(check_value=current))
    return True
