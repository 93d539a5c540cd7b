"""Operators: who may administer, by the hashes of their tokens. One that was revoked keeps its row, and its name."""

from datetime import datetime, timedelta

from sqlalchemy import Column, LargeBinary, String, Table, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection
from studio.v1.access_service_pb2 import Operator
from studio_runtime.errors import ConflictError, NotFoundError

from studio_coordinator.manifest import close_names_hint
from studio_coordinator.store.columns import EnumName, Instant, from_row, to_row
from studio_coordinator.store.metadata import METADATA

OPERATORS = Table(
    "operators",
    METADATA,
    Column("name", String, primary_key=True),
    Column("role", EnumName(Operator.Role.DESCRIPTOR, "ROLE_"), nullable=False),
    Column("tenant", String, nullable=False),
    Column("token_id", String, nullable=False, unique=True),
    Column("token_hash", LargeBinary, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant),
    Column("revoked_at", Instant),
    Column("last_used_at", Instant),
)

# A read must not cost a write each time.
LAST_USED_EVERY = timedelta(minutes=1)


async def create_operator(conn: AsyncConnection, operator: Operator, token_hash: bytes) -> None:
    """Store ``operator``; ConflictError where the name was given before: the audit log would mix them up."""
    row = to_row(OPERATORS, operator, token_hash=token_hash)
    created = insert(OPERATORS).values(row).on_conflict_do_nothing().returning(OPERATORS.c.name)
    if (await conn.execute(created)).one_or_none() is None:
        raise ConflictError(
            f"there is an operator {operator.name} already",
            "Names are given once, so that what was done stays theirs; choose another.",
        )


async def replace_operator(conn: AsyncConnection, operator: Operator, token_hash: bytes) -> None:
    """Store ``operator`` in place of the one of that name, revoked or not, whose token counts no more; or as a new one."""
    row = to_row(OPERATORS, operator, token_hash=token_hash)
    await conn.execute(insert(OPERATORS).values(row).on_conflict_do_update(index_elements=["name"], set_=row))


async def list_operators(conn: AsyncConnection) -> list[Operator]:
    """All operators, revoked ones as well, by name."""
    rows = await conn.execute(select(OPERATORS).order_by(OPERATORS.c.name))
    return [from_row(Operator, row) for row in rows.mappings()]


async def find_operator(conn: AsyncConnection, name: str) -> Operator:
    """The operator ``name``; NotFoundError, with names that are close, where there is none."""
    found = {operator.name: operator for operator in await list_operators(conn)}
    if name not in found:
        raise NotFoundError(
            f"there is no operator {name}", close_names_hint(name, found, "studio operators lists them.")
        )
    return found[name]


async def revoke_operator(conn: AsyncConnection, name: str, now: datetime) -> Operator:
    """Revoke an operator and return it; one that is revoked already stays as it is. NotFoundError where there is none."""
    live = (OPERATORS.c.name == name) & OPERATORS.c.revoked_at.is_(None)
    await conn.execute(update(OPERATORS).where(live).values(revoked_at=now))
    return await find_operator(conn, name)


async def by_token(conn: AsyncConnection, token_id: str) -> tuple[Operator, bytes] | None:
    """The operator whose token has this visible part, and the token's hash."""
    row = (await conn.execute(select(OPERATORS).where(OPERATORS.c.token_id == token_id))).mappings().one_or_none()
    return None if row is None else (from_row(Operator, row), bytes(row["token_hash"]))


async def note_use(conn: AsyncConnection, name: str, now: datetime) -> None:
    """Note that the operator's token was used, to the minute."""
    stale = OPERATORS.c.last_used_at.is_(None) | (OPERATORS.c.last_used_at < now - LAST_USED_EVERY)
    await conn.execute(update(OPERATORS).where((OPERATORS.c.name == name) & stale).values(last_used_at=now))
