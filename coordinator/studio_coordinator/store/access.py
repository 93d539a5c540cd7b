"""API keys: their hashes, never the keys. Every change raises the access version that gateways follow."""

from collections.abc import Iterable, Mapping
from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import BigInteger, Column, LargeBinary, String, Table, func, select, update
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.ext.asyncio import AsyncConnection
from studio.v1.route_pb2 import ApiKey, Limits
from studio_runtime.errors import ConflictError, NotFoundError

from studio_coordinator.store.columns import Document, Instant, from_row, to_row
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
    Column("limits", Document(Limits)),
    # Written with its usage, and no part of what gateways follow.
    Column("last_used_at", Instant),
    Column("version", BigInteger, nullable=False, server_default="1"),
    Column("user", String, nullable=False, server_default=""),
)
FOLLOWED = [column for column in API_KEYS.c if column.name != "last_used_at"]


async def create_key(conn: AsyncConnection, key: ApiKey) -> None:
    """Store ``key``; ConflictError when its id is taken."""
    row = to_row(API_KEYS, key, version=1)
    created = insert(API_KEYS).values(row).on_conflict_do_nothing().returning(API_KEYS.c.id)
    if (await conn.execute(created)).one_or_none() is None:
        raise ConflictError(f"a key with the id {key.id} exists already")
    await raise_counter(conn, ACCESS)


async def list_keys(conn: AsyncConnection) -> list[ApiKey]:
    """All keys with their hashes, revoked ones as well, oldest first; without when they were last used."""
    rows = await conn.execute(select(*FOLLOWED).order_by(API_KEYS.c.created_at, API_KEYS.c.id))
    return [from_row(ApiKey, row) for row in rows.mappings()]


async def last_used(conn: AsyncConnection) -> dict[str, Timestamp]:
    """When each key was last used, by its id; without those that never were."""
    row = API_KEYS.c
    query = select(row.id, row.last_used_at).where(row.last_used_at.is_not(None))
    return {found.id: found.last_used_at for found in await conn.execute(query)}


async def note_use(conn: AsyncConnection, uses: Mapping[str, datetime]) -> None:
    """Keys were used: remember the newest time. In order of their ids, so that two reports never wait in a ring."""
    row = API_KEYS.c
    for key_id, at in sorted(uses.items()):
        newest = func.greatest(row.last_used_at, at)
        await conn.execute(update(API_KEYS).where(row.id == key_id).values(last_used_at=newest))


async def get_key(conn: AsyncConnection, key_id: str) -> ApiKey:
    """A key with its hash; NotFoundError where there is none."""
    row = (await conn.execute(select(*FOLLOWED).where(API_KEYS.c.id == key_id))).mappings().one_or_none()
    if row is None:
        raise NotFoundError(f"there is no key with the id {key_id}", "studio keys list shows the ids.")
    return from_row(ApiKey, row)


async def change_key(conn: AsyncConnection, key: ApiKey, expected_version: int) -> ApiKey:
    """Write what an operator may change: name, user, models, limits and end. ConflictError where it was changed."""
    row = API_KEYS.c
    values = {
        name: value
        for name, value in to_row(API_KEYS, key).items()
        if name in ("name", "user", "models", "limits", "expires_at")
    }
    is_seen = (row.id == key.id) & (row.version == expected_version)
    changed = update(API_KEYS).where(is_seen).values(values | {"version": expected_version + 1}).returning(*FOLLOWED)
    stored = (await conn.execute(changed)).mappings().one_or_none()
    if stored is None:
        present = await get_key(conn, key.id)
        raise ConflictError(
            f"key {key.id} was changed meanwhile: version {present.version}, you saw {expected_version}",
            "Look again with studio keys, then repeat the change.",
        )
    await raise_counter(conn, ACCESS)
    return from_row(ApiKey, stored)


async def limits_of_keys(conn: AsyncConnection, key_ids: Iterable[str]) -> dict[str, Limits]:
    """The limits of those keys that have some."""
    row = API_KEYS.c
    query = select(row.id, row.limits).where(row.id.in_(list(key_ids)) & row.limits.is_not(None))
    return {found.id: found.limits for found in await conn.execute(query)}


async def users_of_keys(conn: AsyncConnection, key_ids: Iterable[str]) -> dict[str, str]:
    """Whose each of those keys is within its tenant; without keys that there are not."""
    row = API_KEYS.c
    query = select(row.id, row.user).where(row.id.in_(list(key_ids)))
    return {found.id: found.user for found in await conn.execute(query)}


async def tenants_with_keys(conn: AsyncConnection) -> set[str]:
    """Tenants that a key which is not revoked belongs to."""
    query = select(API_KEYS.c.tenant).where(API_KEYS.c.revoked_at.is_(None)).distinct()
    return set((await conn.execute(query)).scalars())


async def revoke_key(conn: AsyncConnection, key_id: str, now: datetime) -> ApiKey:
    """Revoke a key and return it; one that is revoked already stays as it is. NotFoundError where there is none."""
    live = (API_KEYS.c.id == key_id) & API_KEYS.c.revoked_at.is_(None)
    if (await conn.execute(update(API_KEYS).where(live).values(revoked_at=now))).rowcount:
        await raise_counter(conn, ACCESS)
    return await get_key(conn, key_id)


async def access_version(conn: AsyncConnection) -> int:
    """Rises by one with every change of a key."""
    return await counter(conn, ACCESS)
