"""What was read of models: one document per source and revision, kept so that a restart need not read again."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Column, String, Table, select
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from studio_coordinator.store.columns import Instant, without_nul
from studio_coordinator.store.metadata import METADATA

MODEL_FACTS = Table(
    "model_facts",
    METADATA,
    Column("source", String, primary_key=True),
    # As the recipe names it; empty: it names none.
    Column("revision", String, primary_key=True),
    Column("facts", JSONB, nullable=False),
    Column("read_at", Instant, nullable=False),
)


async def get_facts(conn: AsyncConnection, source: str, revision: str) -> tuple[dict[str, Any], datetime] | None:
    """The document and when the model was read; None when it never was."""
    row = MODEL_FACTS.c
    query = select(row.facts, row.read_at).where(row.source == source, row.revision == revision)
    found = (await conn.execute(query)).one_or_none()
    return None if found is None else (found.facts, found.read_at.ToDatetime(tzinfo=UTC))


async def put_facts(
    conn: AsyncConnection, source: str, revision: str, facts: dict[str, Any], read_at: datetime
) -> None:
    """Store what was read, in place of what was read before."""
    fresh = insert(MODEL_FACTS).values(source=source, revision=revision, facts=without_nul(facts), read_at=read_at)
    keys = [MODEL_FACTS.c.source, MODEL_FACTS.c.revision]
    newest = {name: fresh.excluded[name] for name in ("facts", "read_at")}
    await conn.execute(fresh.on_conflict_do_update(index_elements=keys, set_=newest))
