"""API keys: their hashes, never the keys. Every change raises the access version that gateways follow."""

from datetime import datetime

from sqlalchemy import Column, LargeBinary, String, Table, select, update
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.ext.asyncio import AsyncConnection
from studio.v1.route_pb2 import ApiKey
from studio_runtime.errors import ConflictError, NotFoundError

from studio_coordinator.store.columns import Instant, from_row, to_row
from studio_coordinator.store.counters import ACCESS, counter, raise_counter
from studio_coordinator.store.metadata import METADATA

API_KEYS = Table(
    "api_keys",
    METADATA,
    Column("id", String, primary_key=True),
    Column("hash", LargeBinary, nullable=False),
    Column("name", String, nullable=False),
    Column("models", ARRAY(String), nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant),
    Column("revoked_at", Instant),
    Column("tenant", String, nullable=False),
)


async def create_key(conn: AsyncConnection, key: ApiKey) -> None:
    """Store ``key``; ConflictError when its id is taken."""
    created = insert(API_KEYS).values(to_row(API_KEYS, key)).on_conflict_do_nothing().returning(API_KEYS.c.id)
    if (await conn.execute(created)).one_or_none() is None:
        raise ConflictError(f"a key with the id {key.id} exists already")
    await raise_counter(conn, ACCESS)


async def list_keys(conn: AsyncConnection) -> list[ApiKey]:
    """All keys with their hashes, revoked ones as well, oldest first."""
    rows = await conn.execute(select(API_KEYS).order_by(API_KEYS.c.created_at, API_KEYS.c.id))
    return [from_row(ApiKey, row) for row in rows.mappings()]


async def revoke_key(conn: AsyncConnection, key_id: str, now: datetime) -> ApiKey:
    """Revoke a key and return it; one that is revoked already stays as it is. NotFoundError where there is none."""
    live = (API_KEYS.c.id == key_id) & API_KEYS.c.revoked_at.is_(None)
    if (await conn.execute(update(API_KEYS).where(live).values(revoked_at=now))).rowcount:
        await raise_counter(conn, ACCESS)
    row = (await conn.execute(select(API_KEYS).where(API_KEYS.c.id == key_id))).mappings().one_or_none()
    if row is None:
        raise NotFoundError(f"there is no key with the id {key_id}", "studio keys list shows the ids.")
    return from_row(ApiKey, row)


async def access_version(conn: AsyncConnection) -> int:
    """Rises by one with every change of a key."""
    return await counter(conn, ACCESS)
