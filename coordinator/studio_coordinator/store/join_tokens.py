"""Join tokens: keyed hashes of their secrets, never the secrets; each is used once."""

from datetime import datetime

from sqlalchemy import Column, LargeBinary, String, Table, delete, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection
from studio.v1.access_service_pb2 import JoinToken
from studio.v1.identity_service_pb2 import Identity
from studio_runtime.errors import NotFoundError

from studio_coordinator.store.columns import EnumName, Instant, from_row, to_row
from studio_coordinator.store.metadata import METADATA

JOIN_TOKENS = Table(
    "join_tokens",
    METADATA,
    Column("id", String, primary_key=True),
    Column("kind", EnumName(Identity.Kind.DESCRIPTOR, "KIND_"), nullable=False),
    # Empty: whatever the node calls itself.
    Column("name", String, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False, index=True),
    Column("used_at", Instant),
    Column("used_by", String, nullable=False),
    Column("actor", String, nullable=False),
)


async def create(conn: AsyncConnection, token: JoinToken, secret_hash: bytes) -> None:
    """Store a new token."""
    await conn.execute(insert(JOIN_TOKENS).values(to_row(JOIN_TOKENS, token, hash=secret_hash)))


async def use(conn: AsyncConnection, token_id: str, secret_hash: bytes, now: datetime) -> JoinToken | None:
    """Use the token up and return it; None where there is none like it, or it was used before, or has run out.

    Of many that try at once, the first to commit has it: the others wait for its row and then find it used.
    """
    row = JOIN_TOKENS.c
    used = (
        update(JOIN_TOKENS)
        .where(row.id == token_id, row.hash == secret_hash, row.used_at.is_(None), row.expires_at > now)
        .values(used_at=now)
        .returning(*JOIN_TOKENS.columns)
    )
    found = (await conn.execute(used)).mappings().one_or_none()
    return None if found is None else from_row(JoinToken, found)


async def used_by(conn: AsyncConnection, token_id: str, identity: str) -> None:
    """Note which identity the token made."""
    await conn.execute(update(JOIN_TOKENS).where(JOIN_TOKENS.c.id == token_id).values(used_by=identity))


async def list_tokens(conn: AsyncConnection) -> list[JoinToken]:
    """All tokens that are remembered, the newest first."""
    rows = await conn.execute(select(JOIN_TOKENS).order_by(JOIN_TOKENS.c.created_at.desc(), JOIN_TOKENS.c.id))
    return [from_row(JoinToken, row) for row in rows.mappings()]


async def revoke(conn: AsyncConnection, token_id: str) -> None:
    """Take back a token that was not used. NotFoundError where there is none, or it was used."""
    unused = delete(JOIN_TOKENS).where(JOIN_TOKENS.c.id == token_id, JOIN_TOKENS.c.used_at.is_(None))
    if not (await conn.execute(unused)).rowcount:
        raise NotFoundError(
            f"there is no unused join token {token_id}",
            "`studio hosts tokens` lists them; what a used one made is revoked with `studio hosts revoke`.",
        )


async def prune(conn: AsyncConnection, before: datetime) -> int:
    """Forget tokens that ran out before ``before``; returns how many."""
    return (await conn.execute(delete(JOIN_TOKENS).where(JOIN_TOKENS.c.expires_at < before))).rowcount
