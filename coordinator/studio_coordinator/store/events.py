"""What happened, in commit order: a watcher that has seen sequence N never misses a smaller one.

Whoever appends holds the events counter until the transaction ends, so appending comes last in a transaction.
"""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import BigInteger, Column, String, Table, delete, select, update
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.ext.asyncio import AsyncConnection
from studio.v1.agent_service_pb2 import AgentEvent
from studio.v1.event_pb2 import Event

from studio_coordinator.store.columns import EnumName, Instant, from_row, to_row
from studio_coordinator.store.counters import EVENTS as EVENTS_COUNTER
from studio_coordinator.store.counters import counter, raise_counter
from studio_coordinator.store.hosts import HOSTS
from studio_coordinator.store.metadata import METADATA

EVENTS = Table(
    "events",
    METADATA,
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("at", Instant, nullable=False, index=True),
    Column("severity", EnumName(Event.Severity.DESCRIPTOR, "SEVERITY_"), nullable=False),
    Column("kind", String, nullable=False),
    Column("host", String, nullable=False, index=True),
    Column("deployment", String, nullable=False, index=True),
    Column("replica", String, nullable=False, index=True),
    Column("reason", String, nullable=False),
    Column("message", String, nullable=False),
    Column("attributes", JSONB, nullable=False),
    Column("actor", String, nullable=False),
)

# So that one statement stays far below its time-out.
PRUNED_AT_ONCE = 10_000


async def append(conn: AsyncConnection, events: Sequence[Event]) -> list[int]:
    """Store ``events`` in their order; returns the sequences they got. Each must say when it happened."""
    if not events:
        return []
    last = await raise_counter(conn, EVENTS_COUNTER, len(events))
    sequences = list(range(last - len(events) + 1, last + 1))
    rows = [to_row(EVENTS, event) | {"sequence": sequence} for event, sequence in zip(events, sequences, strict=True)]
    # Many rows with few parameters each: executemany has no limit on their number.
    await conn.execute(insert(EVENTS), rows)
    return sequences


async def append_from_agent(
    conn: AsyncConnection, host_id: str, session_epoch: int, batch: Sequence[AgentEvent]
) -> int:
    """Store what follows the events of this host that are stored already, each once, under the host's own name.

    Returns the sequence up to which all of the agent's events are stored: its cumulative ACK. What is beyond a gap is left for
    the agent to send again, and a batch of an older session stores nothing.
    """
    row = HOSTS.c
    query = (
        select(row.name, row.session_epoch, row.event_sequence_acked)
        .where(row.id == host_id)
        .with_for_update(key_share=True)
    )
    host = (await conn.execute(query)).one_or_none()
    if host is None:
        return 0
    acked = int(host.event_sequence_acked)
    if host.session_epoch != session_epoch:
        return acked
    fresh: list[Event] = []
    for item in sorted(batch, key=lambda item: item.sequence):
        if item.sequence == acked + len(fresh) + 1:
            event = Event()
            event.CopyFrom(item.event)
            # A host speaks for itself, and never in an operator's name.
            event.host, event.actor = host.name, "agent"
            fresh.append(event)
    if fresh:
        acked += len(fresh)
        await conn.execute(update(HOSTS).where(row.id == host_id).values(event_sequence_acked=acked))
        await append(conn, fresh)
    return acked


async def list_events(
    conn: AsyncConnection,
    *,
    limit: int,
    after_sequence: int = 0,
    deployment: str = "",
    host: str = "",
    replica: str = "",
) -> list[Event]:
    """The newest ``limit`` events, or the first ``limit`` after ``after_sequence``; always in ascending order."""
    query = select(EVENTS).limit(limit)
    for column, wanted in ((EVENTS.c.deployment, deployment), (EVENTS.c.host, host), (EVENTS.c.replica, replica)):
        if wanted:
            query = query.where(column == wanted)
    if after_sequence:
        query = query.where(EVENTS.c.sequence > after_sequence).order_by(EVENTS.c.sequence)
    else:
        query = query.order_by(EVENTS.c.sequence.desc())
    events = [from_row(Event, row) for row in (await conn.execute(query)).mappings()]
    return events if after_sequence else events[::-1]


async def newest_sequence(conn: AsyncConnection) -> int:
    """The sequence of the newest event; 0 before the first."""
    return await counter(conn, EVENTS_COUNTER)


async def prune(conn: AsyncConnection, before: datetime) -> int:
    """Remove the oldest events from before ``before``, at most PRUNED_AT_ONCE of them; returns how many."""
    oldest = select(EVENTS.c.sequence).where(EVENTS.c.at < before).order_by(EVENTS.c.sequence).limit(PRUNED_AT_ONCE)
    return (await conn.execute(delete(EVENTS).where(EVENTS.c.sequence.in_(oldest)))).rowcount
