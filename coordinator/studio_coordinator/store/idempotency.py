"""First answers to requests that may be repeated."""

from datetime import datetime

from sqlalchemy import Column, LargeBinary, String, Table, delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection
from studio_runtime.errors import ConflictError

from studio_coordinator.store.columns import Instant
from studio_coordinator.store.metadata import METADATA

IDEMPOTENCY_KEYS = Table(
    "idempotency_keys",
    METADATA,
    Column("key", String, primary_key=True),
    Column("request_digest", String, nullable=False),
    Column("response", LargeBinary, nullable=False),
    Column("created_at", Instant, nullable=False, index=True),
)

# Apart from the other advisory locks of the schema.
LOCK_SEED = 4


async def remembered(conn: AsyncConnection, key: str, request_digest: str) -> bytes | None:
    """The first answer to the request with ``key``; None where there is none yet.

    Until this transaction ends, others with the same key wait here, so that two at once are not both the first. Raises
    ConflictError when the key came with another request.
    """
    await conn.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(key, LOCK_SEED))))
    row = IDEMPOTENCY_KEYS.c
    found = (await conn.execute(select(row.request_digest, row.response).where(row.key == key))).one_or_none()
    if found is None:
        return None
    if found.request_digest != request_digest:
        raise ConflictError(
            f"the idempotency key {key!r} was used for another request",
            "Send a new key with a new request; repeat a key only with the same content.",
        )
    return bytes(found.response)


async def remember(conn: AsyncConnection, key: str, request_digest: str, response: bytes, now: datetime) -> None:
    """Keep ``response`` as the first answer to the request with ``key``, after ``remembered`` had none."""
    row = {"key": key, "request_digest": request_digest, "response": response, "created_at": now}
    await conn.execute(insert(IDEMPOTENCY_KEYS).values(row))


async def prune(conn: AsyncConnection, before: datetime) -> int:
    """Forget answers from before ``before``; returns how many."""
    return (await conn.execute(delete(IDEMPOTENCY_KEYS).where(IDEMPOTENCY_KEYS.c.created_at < before))).rowcount
