"""What a million tokens of a model cost; a request's cost is reckoned when its usage is stored."""

from sqlalchemy import BigInteger, Column, String, Table, delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection
from studio.v1.route_pb2 import Price, UsageRecord
from studio_runtime.errors import NotFoundError

from studio_coordinator.store.columns import from_row, to_row
from studio_coordinator.store.counters import ACCESS, raise_counter
from studio_coordinator.store.metadata import METADATA

PRICES = Table(
    "prices",
    METADATA,
    Column("model", String, primary_key=True),
    Column("prompt_micros", BigInteger, nullable=False),
    Column("completion_micros", BigInteger, nullable=False),
    Column("cached_micros", BigInteger),
)

PER = 1_000_000


async def put_price(conn: AsyncConnection, price: Price) -> None:
    """Store a price, in place of the one that the model had; what was used before keeps its cost."""
    row = to_row(PRICES, price)
    await conn.execute(insert(PRICES).values(row).on_conflict_do_update(index_elements=["model"], set_=row))
    await raise_counter(conn, ACCESS)


async def list_prices(conn: AsyncConnection) -> list[Price]:
    """All prices, by model."""
    rows = await conn.execute(select(PRICES).order_by(PRICES.c.model))
    return [from_row(Price, row) for row in rows.mappings()]


async def remove_price(conn: AsyncConnection, model: str) -> None:
    """The model costs nothing from now on. NotFoundError where it has no price."""
    if not (await conn.execute(delete(PRICES).where(PRICES.c.model == model))).rowcount:
        raise NotFoundError(f"the model {model} has no price", "studio prices lists them.")
    await raise_counter(conn, ACCESS)


def cost_micros(price: Price | None, record: UsageRecord) -> int:
    """What a request cost, in millionths of the currency, rounded up; 0 where its model has no price."""
    if price is None:
        return 0
    cached = min(record.cached_tokens, record.prompt_tokens)
    cached_micros = price.cached_micros if price.HasField("cached_micros") else price.prompt_micros
    total = (
        (record.prompt_tokens - cached) * price.prompt_micros
        + cached * cached_micros
        + record.completion_tokens * price.completion_micros
    )
    return -(-total // PER)
