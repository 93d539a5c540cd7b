"""Identities of agents, gateways and consoles: whose certificate is the newest, and who is refused."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import BigInteger, Column, ColumnElement, String, Table, UniqueConstraint, func, select, update
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.engine import RowMapping
from sqlalchemy.ext.asyncio import AsyncConnection
from studio.v1.identity_service_pb2 import Identity
from studio_runtime.errors import ConflictError, NotFoundError

from studio_coordinator.store.columns import EnumName, Instant, from_row, to_row
from studio_coordinator.store.hosts import HOSTS
from studio_coordinator.store.metadata import METADATA

IDENTITIES = Table(
    "identities",
    METADATA,
    Column("id", String, primary_key=True),
    Column("kind", EnumName(Identity.Kind.DESCRIPTOR, "KIND_"), nullable=False),
    Column("name", String, nullable=False),
    Column("generation", BigInteger, nullable=False),
    # The generation that its last join began with: certificates from before are refused, and prove nothing of this machine.
    Column("joined_generation", BigInteger, nullable=False),
    Column("created_at", Instant, nullable=False),
    # Of its newest certificate, as are the three below.
    Column("expires_at", Instant, nullable=False),
    Column("key_fingerprint", String, nullable=False),
    Column("authority", String, nullable=False),
    Column("trusted", ARRAY(String), nullable=False),
    Column("revoked_at", Instant),
    Column("locked_reason", String, nullable=False),
    Column("actor", String, nullable=False),
    UniqueConstraint("kind", "name"),
)


# Held while a node joins, so that two never get the same name.
JOINING_LOCK = 7_703


@dataclass(frozen=True)
class IdentityRow:
    """An identity with what is known of its newest certificate."""

    identity: Identity
    # The generation that its last join began with.
    joined_generation: int
    # SHA-256 of the certificate's public key.
    key_fingerprint: str
    # Fingerprint of who signed it.
    authority: str
    # Fingerprints of the authorities that came with it.
    trusted: frozenset[str]


async def begin_joining(conn: AsyncConnection) -> None:
    """Be the only one who names nodes until this transaction ends."""
    await conn.execute(select(func.pg_advisory_xact_lock(JOINING_LOCK)))


async def get(conn: AsyncConnection, identity_id: str) -> IdentityRow | None:
    """One identity; None where there is none."""
    return await _one(conn, IDENTITIES.c.id == identity_id)


async def lock(conn: AsyncConnection, identity_id: str) -> IdentityRow | None:
    """The same, and nobody else changes it until this transaction ends."""
    return await _one(conn, IDENTITIES.c.id == identity_id, for_update=True)


async def named(conn: AsyncConnection, kind: Identity.Kind.ValueType, name: str) -> IdentityRow | None:
    """The identity of this kind and name, locked; None where there is none."""
    return await _one(conn, (IDENTITIES.c.kind == kind) & (IDENTITIES.c.name == name), for_update=True)


async def find(conn: AsyncConnection, name_or_id: str) -> IdentityRow:
    """The identity with that id or name. NotFoundError where there is none, ConflictError where several have the name."""
    if (row := await get(conn, name_or_id)) is not None:
        return row
    found = [row for row in await list_identities(conn) if row.identity.name == name_or_id]
    if not found:
        raise NotFoundError(f"there is no identity {name_or_id}", "`studio hosts identities` lists them.")
    if len(found) > 1:
        ids = ", ".join(row.identity.id for row in found)
        raise ConflictError(f"several nodes are called {name_or_id}", f"Name one by its id: {ids}.")
    return found[0]


async def put(conn: AsyncConnection, row: IdentityRow) -> None:
    """Store an identity, or what has become of it."""
    values = to_row(
        IDENTITIES,
        row.identity,
        joined_generation=row.joined_generation,
        key_fingerprint=row.key_fingerprint,
        authority=row.authority,
        trusted=sorted(row.trusted),
    )
    await conn.execute(insert(IDENTITIES).values(values).on_conflict_do_update(index_elements=["id"], set_=values))


async def list_identities(conn: AsyncConnection) -> list[IdentityRow]:
    """All identities, by kind and name."""
    rows = await conn.execute(select(IDENTITIES).order_by(IDENTITIES.c.kind, IDENTITIES.c.name))
    return [_identity(row) for row in rows.mappings()]


async def refuse(conn: AsyncConnection, identity_id: str, reason: str, revoked_at: datetime | None = None) -> None:
    """Refuse the identity from now on, until it joins again: locked, or revoked as well."""
    values = {"locked_reason": reason} | ({} if revoked_at is None else {"revoked_at": revoked_at})
    await conn.execute(update(IDENTITIES).where(IDENTITIES.c.id == identity_id).values(values))


async def list_refused(conn: AsyncConnection) -> dict[str, str]:
    """Every identity that is refused, by id, with the reason."""
    row = IDENTITIES.c
    refused = select(row.id, row.locked_reason).where((row.locked_reason != "") | row.revoked_at.is_not(None))
    return {found.id: found.locked_reason for found in await conn.execute(refused)}


async def host_id_of(conn: AsyncConnection, name: str) -> str | None:
    """The id of the host called ``name``, whether or not it has an identity; None where there is none."""
    return (await conn.execute(select(HOSTS.c.id).where(HOSTS.c.name == name))).scalar_one_or_none()


async def _one(conn: AsyncConnection, which: ColumnElement[bool], *, for_update: bool = False) -> IdentityRow | None:
    query = select(IDENTITIES).where(which)
    row = (await conn.execute(query.with_for_update() if for_update else query)).mappings().one_or_none()
    return None if row is None else _identity(row)


def _identity(row: RowMapping) -> IdentityRow:
    return IdentityRow(
        identity=from_row(Identity, row),
        joined_generation=row["joined_generation"],
        key_fingerprint=row["key_fingerprint"],
        authority=row["authority"],
        trusted=frozenset(row["trusted"]),
    )
