"""What each host should run now: one whole document per host, replaced only by a newer generation."""

from collections.abc import Collection, Mapping

from sqlalchemy import BigInteger, Column, ForeignKey, String, Table, bindparam, func, select, text
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.ext.asyncio import AsyncConnection
from studio.v1.assignment_pb2 import Assignment

from studio_coordinator.store.columns import Document
from studio_coordinator.store.metadata import METADATA

ASSIGNMENTS = Table(
    "assignments",
    METADATA,
    Column("host_id", String, ForeignKey("hosts.id", ondelete="CASCADE"), primary_key=True),
    Column("generation", BigInteger, nullable=False),
    # The leader's term that wrote it.
    Column("term", BigInteger, nullable=False),
    Column("document", Document(Assignment), nullable=False),
    # The transaction that wrote it last, set by a trigger.
    Column("changed_in", BigInteger, nullable=False, server_default=text("pg_current_xact_id()::text::bigint")),
)


# Arrays, so that the statement is the same however many hosts there are.
PUT_ALL = text(
    "INSERT INTO assignments AS kept (host_id, generation, term, document)"
    " SELECT host_id, generation, CAST(:term AS bigint), document FROM unnest("
    "CAST(:hosts AS varchar[]), CAST(:generations AS bigint[]), CAST(:documents AS jsonb[]))"
    " AS given (host_id, generation, document)"
    " ON CONFLICT (host_id) DO UPDATE"
    " SET generation = excluded.generation, term = excluded.term, document = excluded.document"
    " WHERE kept.generation < excluded.generation AND kept.term <= excluded.term RETURNING host_id"
).bindparams(bindparam("documents", type_=ARRAY(Document(Assignment))))


async def get_assignment(conn: AsyncConnection, host_id: str) -> Assignment | None:
    """The host's assignment; None while nothing was decided for it."""
    query = select(ASSIGNMENTS.c.document).where(ASSIGNMENTS.c.host_id == host_id)
    return (await conn.execute(query)).scalar_one_or_none()


async def put_assignment(conn: AsyncConnection, host_id: str, assignment: Assignment, term: int) -> bool:
    """Store the assignment where its generation is newer and ``term`` not older; False, and nothing is stored, elsewhere."""
    row = ASSIGNMENTS.c
    fresh = insert(ASSIGNMENTS).values(
        host_id=host_id, generation=assignment.generation, term=term, document=assignment
    )
    newer = fresh.on_conflict_do_update(
        index_elements=[row.host_id],
        set_={name: fresh.excluded[name] for name in ("generation", "term", "document")},
        where=(row.generation < fresh.excluded.generation) & (row.term <= fresh.excluded.term),
    )
    return (await conn.execute(newer.returning(row.host_id))).one_or_none() is not None


async def put_assignments(conn: AsyncConnection, documents: Mapping[str, Assignment], term: int) -> set[str]:
    """Store each assignment as ``put_assignment`` does, all by one statement; ids of the hosts whose assignment was stored."""
    if not documents:
        return set()
    given = {
        "hosts": list(documents),
        "generations": [document.generation for document in documents.values()],
        "term": term,
        "documents": list(documents.values()),
    }
    return set((await conn.execute(PUT_ALL, given)).scalars())


async def list_assignments(conn: AsyncConnection) -> dict[str, Assignment]:
    """The assignments of all hosts, by host id."""
    rows = await conn.execute(select(ASSIGNMENTS.c.host_id, ASSIGNMENTS.c.document))
    return {row.host_id: row.document for row in rows}


async def read_assignments(conn: AsyncConnection, host_ids: Collection[str]) -> dict[str, Assignment]:
    """The assignments of those hosts that have one, by host id."""
    query = select(ASSIGNMENTS.c.host_id, ASSIGNMENTS.c.document)
    rows = await conn.execute(query.where(ASSIGNMENTS.c.host_id == func.any(list(host_ids))))
    return {row.host_id: row.document for row in rows}
