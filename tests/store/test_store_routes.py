import asyncio

from builders import a_route_table
from studio.v1.route_pb2 import Route, RouteTable
from studio_coordinator.store import routes
from studio_coordinator.store.database import Database


async def put(database: Database, table: RouteTable) -> bool:
    async with database.transaction() as conn:
        return await routes.put_table(conn, table)


async def current(database: Database) -> RouteTable:
    async with database.transaction() as conn:
        return await routes.current_table(conn)


async def test_the_first_table_is_empty(database: Database):
    assert await current(database) == RouteTable()


async def test_versions_follow_one_another(database: Database):
    accepted = [await put(database, a_route_table(version)) for version in (2, 1, 1, 3, 2)]
    assert accepted == [False, True, False, False, True]
    assert await current(database) == a_route_table(2)


async def test_of_many_writers_of_one_version_one_is_accepted(database: Database):
    tables = [a_route_table(1, routes=[Route(model=f"m{n}")]) for n in range(6)]
    accepted = await asyncio.gather(*(put(database, table) for table in tables))
    assert sorted(accepted) == [False] * 5 + [True]
    assert await current(database) == tables[accepted.index(True)]
