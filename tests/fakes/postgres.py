"""Fixtures: one real PostgreSQL per test process, and a database with the newest schema, as new for every test.

Making a database takes a tenth of a second of computing, emptying its tables a few milliseconds; so the rows that migrations
leave behind are kept in a schema of their own, from which each test begins. A lane uses the fixtures by importing them into its
``conftest.py``.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path

import asyncpg
import pytest
from fakes import newer_schema
from sqlalchemy import text
from studio_coordinator.embedded_postgres import DATABASE, Embedded, running
from studio_coordinator.store.database import Database

# Nothing here has to survive a crash.
FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
_numbers = count(1)

KEEP_ROWS = """
DO $$ DECLARE name text; BEGIN
  CREATE SCHEMA kept;
  FOR name IN SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace
      AND relkind IN ('r', 'p') AND NOT relispartition LOOP
    EXECUTE format('CREATE TABLE kept.%1$I AS TABLE public.%1$I', name);
  END LOOP;
END $$
"""
END_SESSIONS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
# Without triggers, so that the order of tables does not matter.
BEGIN_ANEW = """
DO $$ DECLARE name text; BEGIN
  SET LOCAL session_replication_role = replica;
  FOR name IN SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace
      AND relkind IN ('r', 'p') AND NOT relispartition LOOP
    EXECUTE format('DELETE FROM public.%I', name);
    EXECUTE format('INSERT INTO public.%1$I TABLE kept.%1$I', name);
  END LOOP;
END $$
"""


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedded]:
    """A server whose ``studio`` database has the newest schema."""
    with running(tmp_path_factory.mktemp("postgres") / "pg", FAST) as embedded:
        asyncio.run(_migrate(embedded, tmp_path_factory.mktemp("newer")))
        yield embedded


@pytest.fixture
async def database_url(postgres: Embedded) -> str:
    """A database with the newest schema and nothing else."""
    await administer(postgres, END_SESSIONS, BEGIN_ANEW, database=DATABASE)
    return postgres.url


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


async def administer(postgres: Embedded, *statements: str, database: str = "postgres") -> None:
    """Run statements beside the store, each in a transaction of its own."""
    connection = await asyncpg.connect(url_of(postgres, database).replace("postgresql+asyncpg", "postgresql"))
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def _migrate(postgres: Embedded, folder: Path) -> None:
    database = Database(postgres.url)
    try:
        await database.upgrade()
        if newer_schema.wanted():
            newer_schema.write_migration(folder)
            async with database.transaction() as conn:
                await conn.run_sync(newer_schema.upgrade_to_newer, folder)
    finally:
        await database.close()
    await administer(postgres, KEEP_ROWS, database=DATABASE)
