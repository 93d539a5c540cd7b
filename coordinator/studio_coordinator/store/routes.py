"""The one versioned route table of the fleet."""

from sqlalchemy import BigInteger, CheckConstraint, Column, Integer, Table, select, update
from sqlalchemy.ext.asyncio import AsyncConnection
from studio.v1.route_pb2 import RouteTable

from studio_coordinator.store.columns import Document
from studio_coordinator.store.metadata import METADATA

ROUTE_TABLE = Table(
    "route_table",
    METADATA,
    Column("id", Integer, CheckConstraint("id = 1", name="single_row"), primary_key=True, autoincrement=False),
    Column("version", BigInteger, nullable=False),
    Column("document", Document(RouteTable), nullable=False),
)


async def current_table(conn: AsyncConnection) -> RouteTable:
    """The newest table; an empty one with version 0 before the first."""
    table: RouteTable = (await conn.execute(select(ROUTE_TABLE.c.document))).scalar_one()
    return table


async def replace_table(conn: AsyncConnection, table: RouteTable) -> None:
    """Store ``table`` whatever its version: for a database that was restored, where versions were given before."""
    await conn.execute(update(ROUTE_TABLE).values(version=table.version, document=table))


async def put_table(conn: AsyncConnection, table: RouteTable) -> bool:
    """Store ``table`` where its version follows the current one; False, and nothing is stored, where it does not."""
    values = {"version": table.version, "document": table}
    newer = update(ROUTE_TABLE).where(ROUTE_TABLE.c.version == table.version - 1).values(values)
    return (await conn.execute(newer)).rowcount == 1
