"""What is kept of models and of starts."""

import asyncio
from datetime import timedelta

from builders import NOW
from studio.v1.replica_pb2 import MeasuredMemory
from studio_coordinator.store import measured_memory, model_facts
from studio_coordinator.store.database import Database
from studio_coordinator.store.measured_memory import Range


async def record(database: Database, digest: str = "d1", gpus: int = 1, **parts: int) -> bool:
    measured = MeasuredMemory(engine_version="0.33.0", gpu_model="H100", **parts)  # type: ignore[arg-type]
    async with database.transaction() as conn:
        return await measured_memory.record(conn, digest, gpus, measured, NOW)


async def ranges(database: Database) -> list[Range]:
    async with database.transaction() as conn:
        return await measured_memory.list_ranges(conn)


async def test_facts_are_kept_by_source_and_revision_and_the_newest_count(database: Database):
    async with database.transaction() as conn:
        assert await model_facts.get_facts(conn, "hf://a/b", "main") is None
        await model_facts.put_facts(conn, "hf://a/b", "main", {"layers": 1}, NOW)
        await model_facts.put_facts(conn, "hf://a/b", "other", {"layers": 9}, NOW)
        await model_facts.put_facts(conn, "hf://a/b", "main", {"layers": 2, "name": "\0"}, NOW + timedelta(hours=1))
    async with database.transaction() as conn:
        found = await model_facts.get_facts(conn, "hf://a/b", "main")
    assert found == ({"layers": 2, "name": "\ufffd"}, NOW + timedelta(hours=1))


async def test_of_several_starts_the_lowest_and_the_highest_are_kept(database: Database):
    assert await record(database, weights_bytes=10, graphs_bytes=3)
    assert await record(database, weights_bytes=12)
    assert await record(database, weights_bytes=8, activation_bytes=5)
    (known,) = await ranges(database)
    assert (known.recipe_digest, known.engine_version, known.gpu_model) == ("d1", "0.33.0", "H100")
    assert measured_memory.parts_of(known.lowest) == {"weights_bytes": 8, "graphs_bytes": 3, "activation_bytes": 5}
    assert measured_memory.parts_of(known.highest) == {"weights_bytes": 12, "graphs_bytes": 3, "activation_bytes": 5}


async def test_the_same_start_again_says_nothing_new(database: Database):
    assert await record(database, weights_bytes=10)
    assert not await record(database, weights_bytes=10)
    assert await record(database, digest="d2", weights_bytes=10)
    assert await record(database, gpus=2, weights_bytes=10)
    assert len(await ranges(database)) == 3


async def test_two_that_record_at_once_lose_nothing(database: Database):
    await asyncio.gather(*(record(database, weights_bytes=size) for size in range(1, 9)))
    (known,) = await ranges(database)
    assert (known.lowest.weights_bytes, known.highest.weights_bytes) == (1, 8)
