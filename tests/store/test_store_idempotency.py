import asyncio
from datetime import timedelta

import pytest
from builders import NOW, a_recipe
from studio.v1.admin_service_pb2 import Applied
from studio_coordinator.store import idempotency, recipes
from studio_coordinator.store.database import Database
from studio_runtime.errors import ConflictError


async def apply_once(database: Database, max_model_len: int, key: str = "k", digest: str = "d") -> Applied:
    async with database.transaction() as conn:
        first = await idempotency.remembered(conn, key, digest)
        if first is not None:
            return Applied.FromString(first)
        applied = await recipes.apply_recipe(conn, a_recipe(max_model_len=max_model_len), "ann", NOW)
        await idempotency.remember(conn, key, digest, applied.SerializeToString(), NOW)
        return applied


async def test_a_repeated_request_gets_the_first_answer(database: Database):
    first = await apply_once(database, 1)
    assert await apply_once(database, 2) == first
    assert (await apply_once(database, 2, key="other")).revision == 2


async def test_a_key_with_another_request_is_refused(database: Database):
    await apply_once(database, 1)
    with pytest.raises(ConflictError, match="'k' was used for another request"):
        await apply_once(database, 1, digest="e")


async def test_the_same_request_at_once_is_done_once(database: Database):
    answers = await asyncio.gather(*(apply_once(database, n) for n in range(1, 7)))
    assert {(answer.revision, answer.outcome) for answer in answers} == {(1, Applied.OUTCOME_CREATED)}
    async with database.transaction() as conn:
        assert (await recipes.get_recipe(conn, "tiny")).revision == 1


async def test_a_request_that_failed_is_forgotten(database: Database):
    async def fail() -> None:
        async with database.transaction() as conn:
            await idempotency.remember(conn, "k", "d", b"", NOW)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail()
    assert (await apply_once(database, 1)).outcome == Applied.OUTCOME_CREATED


async def test_old_answers_are_forgotten(database: Database):
    await apply_once(database, 1)
    async with database.transaction() as conn:
        assert await idempotency.prune(conn, NOW) == 0
        assert await idempotency.prune(conn, NOW + timedelta(seconds=1)) == 1
        assert await idempotency.remembered(conn, "k", "d") is None
