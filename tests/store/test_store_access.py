import asyncio
from datetime import timedelta

import pytest
from builders import NOW, a_key, a_moment
from studio.v1.route_pb2 import ApiKey
from studio_coordinator.store import access
from studio_coordinator.store.database import Database
from studio_runtime.errors import ConflictError, NotFoundError


async def create(database: Database, key: ApiKey) -> None:
    async with database.transaction() as conn:
        await access.create_key(conn, key)


async def version(database: Database) -> int:
    async with database.transaction() as conn:
        return await access.access_version(conn)


async def test_a_key_comes_back_with_its_hash(database: Database):
    key = a_key(models=["chat", "embed"], expires_at=a_moment(60), tenant="t")
    await create(database, key)
    async with database.transaction() as conn:
        assert await access.list_keys(conn) == [key]


async def test_every_change_raises_the_version(database: Database):
    assert await version(database) == 0
    await create(database, a_key("k1"))
    await create(database, a_key("k2"))
    assert await version(database) == 2
    async with database.transaction() as conn:
        await access.revoke_key(conn, "k1", NOW)
    assert await version(database) == 3


async def test_an_id_is_given_once(database: Database):
    await create(database, a_key("k1", name="first"))
    with pytest.raises(ConflictError, match="k1"):
        await create(database, a_key("k1", name="second"))
    assert await version(database) == 1


async def test_a_revoked_key_stays_listed_and_keeps_its_time(database: Database):
    await create(database, a_key("k1"))
    async with database.transaction() as conn:
        first = await access.revoke_key(conn, "k1", NOW)
        again = await access.revoke_key(conn, "k1", NOW + timedelta(days=1))
        assert await access.list_keys(conn) == [first]
    assert first == again == a_key("k1", revoked_at=a_moment())
    assert await version(database) == 2


async def test_an_unknown_key_cannot_be_revoked(database: Database):
    with pytest.raises(NotFoundError, match="k9"):
        async with database.transaction() as conn:
            await access.revoke_key(conn, "k9", NOW)


async def test_changes_at_once_are_all_counted(database: Database):
    await asyncio.gather(*(create(database, a_key(f"k{n}")) for n in range(6)))
    assert await version(database) == 6
