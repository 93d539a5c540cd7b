"""The authorities that certificates of nodes are signed by, each with its phase; private keys only sealed."""

from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Boolean, Column, LargeBinary, String, Table, delete, func, select, update
from sqlalchemy.dialects.postgresql import TIMESTAMP, insert
from sqlalchemy.ext.asyncio import AsyncConnection
from studio.v1.access_service_pb2 import Authority

from studio_coordinator.store.columns import EnumName
from studio_coordinator.store.metadata import METADATA

AUTHORITIES = Table(
    "authorities",
    METADATA,
    Column("fingerprint", String, primary_key=True),
    Column("phase", EnumName(Authority.Phase.DESCRIPTOR, "PHASE_"), nullable=False),
    # PEM: its own, and those above it.
    Column("certificate", LargeBinary, nullable=False),
    Column("sealed_key", LargeBinary, nullable=False),
    # By an operator; else this coordinator made it.
    Column("given", Boolean, nullable=False),
    Column("created_at", TIMESTAMP(timezone=True), nullable=False),
    Column("expires_at", TIMESTAMP(timezone=True), nullable=False),
)

# Held while a phase changes, so that two coordinators never make an authority each.
ROTATION_LOCK = 7_702


@dataclass(frozen=True)
class AuthorityRow:
    """One authority as it is stored."""

    fingerprint: str
    phase: Authority.Phase.ValueType
    certificate: bytes
    sealed_key: bytes = field(repr=False)
    given: bool
    created_at: datetime
    expires_at: datetime


async def lock(conn: AsyncConnection) -> None:
    """Be the only one who changes authorities until this transaction ends."""
    await conn.execute(select(func.pg_advisory_xact_lock(ROTATION_LOCK)))


async def list_authorities(conn: AsyncConnection) -> list[AuthorityRow]:
    """All of them, the oldest first."""
    rows = await conn.execute(select(AUTHORITIES).order_by(AUTHORITIES.c.created_at, AUTHORITIES.c.fingerprint))
    return [AuthorityRow(**row) for row in rows.mappings()]


async def add(conn: AsyncConnection, row: AuthorityRow) -> None:
    """Store a new authority."""
    await conn.execute(insert(AUTHORITIES).values(vars(row)))


async def set_phase(conn: AsyncConnection, fingerprint: str, phase: Authority.Phase.ValueType) -> None:
    """Change an authority's phase."""
    await conn.execute(update(AUTHORITIES).where(AUTHORITIES.c.fingerprint == fingerprint).values(phase=phase))


async def remove(conn: AsyncConnection, fingerprint: str) -> None:
    """Forget an authority with its key."""
    await conn.execute(delete(AUTHORITIES).where(AUTHORITIES.c.fingerprint == fingerprint))


async def reseal(conn: AsyncConnection, fingerprint: str, sealed_key: bytes) -> None:
    """Keep the key sealed anew, with another master key."""
    await conn.execute(
        update(AUTHORITIES).where(AUTHORITIES.c.fingerprint == fingerprint).values(sealed_key=sealed_key)
    )
