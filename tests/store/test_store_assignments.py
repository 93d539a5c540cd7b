import asyncio

import pytest
from builders import NOW, a_hello, an_assignment
from studio_coordinator.store import assignments, hosts
from studio_coordinator.store.database import Database
from studio_runtime.errors import ConflictError


@pytest.fixture(autouse=True)
async def host(database: Database) -> None:
    async with database.transaction() as conn:
        await hosts.open_session(conn, a_hello(), "h1", NOW)


async def put(database: Database, generation: int, *replica_ids: str, term: int = 1) -> bool:
    async with database.transaction() as conn:
        return await assignments.put_assignment(conn, "h1", an_assignment(generation, *replica_ids), term)


async def test_nothing_is_assigned_at_first(database: Database):
    async with database.transaction() as conn:
        assert await assignments.get_assignment(conn, "h1") is None
        assert await assignments.list_assignments(conn) == {}


async def test_an_assignment_comes_back_whole(database: Database):
    assert await put(database, 1, "chat-1", "chat-2")
    async with database.transaction() as conn:
        assert await assignments.get_assignment(conn, "h1") == an_assignment(1, "chat-1", "chat-2")
        assert await assignments.list_assignments(conn) == {"h1": an_assignment(1, "chat-1", "chat-2")}


async def test_only_a_newer_generation_replaces_it(database: Database):
    accepted = [await put(database, generation, f"chat-{generation}") for generation in (2, 2, 1, 5, 4)]
    assert accepted == [True, False, False, True, False]
    async with database.transaction() as conn:
        assert await assignments.get_assignment(conn, "h1") == an_assignment(5, "chat-5")


async def test_an_older_term_writes_nothing(database: Database):
    assert await put(database, 1, term=3)
    assert not await put(database, 2, term=2)
    assert await put(database, 2, term=3)


async def test_of_many_writers_of_one_generation_one_is_accepted(database: Database):
    accepted = await asyncio.gather(*(put(database, 1, f"chat-{n}") for n in range(6)))
    assert sorted(accepted) == [False] * 5 + [True]
    async with database.transaction() as conn:
        assert await assignments.get_assignment(conn, "h1") == an_assignment(1, f"chat-{accepted.index(True)}")


async def test_the_assignment_of_a_host_that_is_removed_meanwhile_is_a_conflict(database: Database):
    async with database.transaction() as conn:
        await hosts.remove_host(conn, "h1")
        putting = asyncio.create_task(put(database, 1, "chat-1"))
    with pytest.raises(ConflictError, match="another change came first"):
        await putting
