"""What starts of engines measured: the lowest and the highest of each part, per recipe, engine version, and GPUs of a replica.

Recording the same start twice changes nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Column, Integer, String, Table, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection
from studio.v1.replica_pb2 import MeasuredMemory

from studio_coordinator.store.columns import Document, Instant
from studio_coordinator.store.metadata import METADATA

MEASURED_MEMORY = Table(
    "measured_memory",
    METADATA,
    Column("recipe_digest", String, primary_key=True),
    Column("engine_version", String, primary_key=True),
    Column("gpu_model", String, primary_key=True),
    # Of one replica: a model that is split more ways leaves less on each.
    Column("gpus", Integer, primary_key=True, autoincrement=False),
    Column("lowest", Document(MeasuredMemory), nullable=False),
    Column("highest", Document(MeasuredMemory), nullable=False),
    Column("measured_at", Instant, nullable=False),
)


@dataclass(frozen=True)
class Range:
    """What all starts of a recipe on one kind of GPU had in common."""

    recipe_digest: str
    engine_version: str
    gpu_model: str
    gpus: int
    lowest: MeasuredMemory
    highest: MeasuredMemory


async def record(conn: AsyncConnection, recipe_digest: str, gpus: int, measured: MeasuredMemory, now: datetime) -> bool:
    """Count a start on ``gpus`` GPUs in; False when it says nothing new. ``measured`` names engine version and GPU model."""
    row = MEASURED_MEMORY.c
    keys = {
        "recipe_digest": recipe_digest,
        "engine_version": measured.engine_version,
        "gpu_model": measured.gpu_model,
        "gpus": gpus,
    }
    fresh = insert(MEASURED_MEMORY).values(**keys, lowest=measured, highest=measured, measured_at=now)
    made = await conn.execute(fresh.on_conflict_do_nothing().returning(row.recipe_digest))
    if made.one_or_none() is not None:
        return True
    same = [row[name] == value for name, value in keys.items()]
    known = (await conn.execute(select(row.lowest, row.highest).where(*same).with_for_update())).one()
    lowest, highest = _each(min, known.lowest, measured), _each(max, known.highest, measured)
    if (lowest, highest) == (known.lowest, known.highest):
        return False
    changed = MEASURED_MEMORY.update().where(*same).values(lowest=lowest, highest=highest, measured_at=now)
    await conn.execute(changed)
    return True


async def list_ranges(conn: AsyncConnection) -> list[Range]:
    """Everything that was measured."""
    row = MEASURED_MEMORY.c
    query = select(row.recipe_digest, row.engine_version, row.gpu_model, row.gpus, row.lowest, row.highest)
    return [Range(*found) for found in await conn.execute(query)]


def parts_of(measured: MeasuredMemory) -> dict[str, int]:
    """The bytes and tokens that were measured, by field; the rest of the message names where."""
    return {field.name: value for field, value in measured.ListFields() if field.has_presence}


def _each(choose: Callable[[int, int], int], one: MeasuredMemory, other: MeasuredMemory) -> MeasuredMemory:
    """Part by part, what ``choose`` takes of the two; what only one of them has is taken from that one."""
    chosen = MeasuredMemory()
    chosen.CopyFrom(one)
    mine = parts_of(one)
    for name, measured in parts_of(other).items():
        setattr(chosen, name, choose(mine[name], measured) if name in mine else measured)
    return chosen
