"""Fixtures: one real PostgreSQL per test process, and a fresh, migrated database per test, copied from a template.

A lane uses them by importing them into its ``conftest.py``.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from itertools import count

import asyncpg
import pytest
from sqlalchemy import text
from studio_coordinator.embedded_postgres import DATABASE, Embedded, running
from studio_coordinator.store.database import Database

# Nothing here has to survive a crash.
FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
TEMPLATE = DATABASE
_numbers = count(1)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedded]:
    """A server whose ``studio`` database is migrated and serves as the template."""
    with running(tmp_path_factory.mktemp("postgres") / "pg", FAST) as embedded:
        asyncio.run(_migrate(embedded.url))
        yield embedded


@pytest.fixture
async def database_url(postgres: Embedded) -> AsyncIterator[str]:
    """A fresh database with the newest schema."""
    name = f"test_{next(_numbers)}"
    await administer(postgres, f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
    yield url_of(postgres, name)
    await administer(postgres, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def empty_database_url(postgres: Embedded) -> AsyncIterator[str]:
    """A fresh database without any table."""
    name = f"empty_{next(_numbers)}"
    await administer(postgres, f"CREATE DATABASE {name}")
    yield url_of(postgres, name)
    await administer(postgres, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """The store on a fresh database."""
    opened = Database(database_url)
    yield opened
    await opened.close()


async def until_one_waits_for_a_lock(database: Database) -> None:
    """Return once some session of the server waits for a lock that another holds."""
    async with database.transaction() as conn:
        # Unlike pg_stat_activity, this view is not frozen for the length of a transaction.
        while not (await conn.execute(text("SELECT count(*) FROM pg_locks WHERE NOT granted"))).scalar_one():
            await conn.execute(text("SELECT pg_sleep(0.01)"))


def url_of(postgres: Embedded, name: str) -> str:
    """The URL of another database of the server."""
    return postgres.url.replace(f"/{DATABASE}?", f"/{name}?")


async def administer(postgres: Embedded, statement: str) -> None:
    """Run a statement that belongs to no database."""
    dsn = url_of(postgres, "postgres").replace("postgresql+asyncpg", "postgresql")
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def _migrate(url: str) -> None:
    database = Database(url)
    try:
        await database.upgrade()
    finally:
        # The template must have no connection while it is copied.
        await database.close()
