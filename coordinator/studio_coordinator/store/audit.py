"""The audit log, which only grows: a trigger refuses anything else, and a hash chain tells when the trigger was off.

Whoever adds an entry holds the head's row until the transaction ends, so the chain has no forks and no gaps. It is the last
thing that a transaction does: nobody waits for another row with the head in hand.
"""

from collections.abc import AsyncIterator

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Integer,
    LargeBinary,
    String,
    Table,
    any_,
    func,
    literal,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection
from studio.v1.access_service_pb2 import AuditAnchor, AuditEntry

from studio_coordinator.audit.chain import TEXTS, chained
from studio_coordinator.store.columns import Instant, from_row, to_row, without_nul
from studio_coordinator.store.metadata import METADATA

AUDIT = Table(
    "audit",
    METADATA,
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("at", Instant, nullable=False),
    Column("actor", String, nullable=False),
    Column("role", String, nullable=False),
    Column("action", String, nullable=False),
    Column("object", String, nullable=False),
    Column("request_id", String, nullable=False),
    Column("before", String, nullable=False),
    Column("after", String, nullable=False),
    Column("outcome", String, nullable=False),
    Column("peer", String, nullable=False),
    Column("previous_hash", LargeBinary, nullable=False),
    Column("hash", LargeBinary, nullable=False),
)

AUDIT_HEAD = Table(
    "audit_head",
    METADATA,
    Column("id", Integer, CheckConstraint("id = 1", name="single_row"), primary_key=True, autoincrement=False),
    Column("sequence", BigInteger, nullable=False),
    Column("hash", LargeBinary, nullable=False),
)

# What parts the objects of one entry.
SEPARATOR = ", "
PAGE = 1000
WRITTEN = func.pg_current_xact_id_if_assigned().is_not(None)


async def has_written(conn: AsyncConnection) -> bool:
    """Whether this transaction has changed or locked a row so far."""
    return bool((await conn.execute(select(WRITTEN))).scalar_one())


async def append(conn: AsyncConnection, entry: AuditEntry) -> AuditEntry:
    """Chain ``entry`` to the newest one and store it; returns it with its place in the chain."""
    head = (await conn.execute(select(AUDIT_HEAD).with_for_update())).one()
    # What is hashed is what the database will give back.
    entry.at.FromMicroseconds(entry.at.ToMicroseconds())
    for name in TEXTS:
        setattr(entry, name, without_nul(getattr(entry, name)))
    chained(entry, AuditAnchor(sequence=head.sequence, hash=bytes(head.hash)))
    await conn.execute(insert(AUDIT).values(to_row(AUDIT, entry)))
    await conn.execute(update(AUDIT_HEAD).values(sequence=entry.sequence, hash=entry.hash))
    return entry


async def freeze(conn: AsyncConnection) -> None:
    """Have this transaction, which must be new, see the log as it is now, whatever is added meanwhile."""
    await conn.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))


async def head(conn: AsyncConnection) -> AuditAnchor:
    """Where the chain ends, as this database has it noted."""
    row = (await conn.execute(select(AUDIT_HEAD))).one()
    return AuditAnchor(sequence=row.sequence, hash=bytes(row.hash))


async def list_entries(
    conn: AsyncConnection, limit: int, after_sequence: int = 0, actor: str = "", object_name: str = ""
) -> list[AuditEntry]:
    """Entries in their order: those after ``after_sequence``, or with 0 the newest ones; at most ``limit``."""
    wanted = select(AUDIT).where(AUDIT.c.sequence > after_sequence).limit(limit)
    if actor:
        wanted = wanted.where(AUDIT.c.actor == actor)
    if object_name:
        wanted = wanted.where(literal(object_name) == any_(func.string_to_array(AUDIT.c.object, SEPARATOR)))
    order = AUDIT.c.sequence.asc() if after_sequence else AUDIT.c.sequence.desc()
    rows = (await conn.execute(wanted.order_by(order))).mappings().all()
    return [from_row(AuditEntry, row) for row in (rows if after_sequence else reversed(rows))]


async def every_entry(conn: AsyncConnection) -> AsyncIterator[AuditEntry]:
    """All entries in their order, a page at a time."""
    sequence, whole = -1, True
    while whole:
        page = select(AUDIT).where(AUDIT.c.sequence > sequence).order_by(AUDIT.c.sequence).limit(PAGE)
        rows = (await conn.execute(page)).mappings().all()
        for row in rows:
            yield from_row(AuditEntry, row)
            sequence = row["sequence"]
        whole = len(rows) == PAGE
