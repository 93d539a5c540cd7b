import asyncio
import os
import signal
from pathlib import Path

import asyncpg
import pytest
from fakes.postgres import FAST, administer, url_of
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError
from studio_coordinator.embedded_postgres import Embedded, running
from studio_coordinator.store import database as database_module
from studio_coordinator.store import migrations
from studio_coordinator.store.database import Database
from studio_coordinator.store.migrations import SchemaTooNewError
from studio_coordinator.store.migrations.check import migration_problems
from studio_runtime.errors import InvalidError, UnavailableError


async def execute(database: Database, *statements: str) -> None:
    async with database.transaction() as conn:
        for statement in statements:
            await conn.execute(text(statement))


async def count_keys(database: Database) -> int:
    async with database.transaction() as conn:
        return int((await conn.execute(text("SELECT count(*) FROM counters"))).scalar_one())


@pytest.mark.parametrize("url", ["studio", "", "mysql://u:hunter2@h/d", "postgresql://u:hunter2@h:port/d"])
def test_an_url_of_no_postgres_is_refused_without_repeating_its_password(url: str):
    with pytest.raises(InvalidError) as refused:
        Database(url)
    assert "hunter2" not in refused.value.message + refused.value.hint


async def test_a_transaction_is_kept_whole_or_not_at_all(database: Database):
    await execute(database, "INSERT INTO counters VALUES ('a', 0)")
    with pytest.raises(ProgrammingError):
        await execute(database, "INSERT INTO counters VALUES ('b', 0)", "SELECT nonsense")
    with pytest.raises(ProgrammingError):
        await execute(database, "SELECT nonsense FROM nowhere")
    assert await count_keys(database) == 3


async def test_the_server_limits_every_wait(database: Database):
    async with database.transaction() as conn:
        for setting, expected in (
            ("statement_timeout", "10s"),
            ("lock_timeout", "5s"),
            ("idle_in_transaction_session_timeout", "15s"),
            ("application_name", "studio-coordinator"),
        ):
            assert (await conn.execute(text(f"SHOW {setting}"))).scalar_one() == expected


async def test_what_else_goes_wrong_in_a_transaction_stays_what_it_is(database: Database):
    async def fail() -> None:
        async with database.transaction():
            raise FileNotFoundError

    with pytest.raises(FileNotFoundError):
        await fail()


async def test_a_text_that_postgres_cannot_hold_is_refused(database: Database):
    with pytest.raises(InvalidError, match="NUL"):
        await count_named(database, "\0")


async def count_named(database: Database, name: str) -> None:
    async with database.transaction() as conn:
        await conn.execute(text("SELECT count(*) FROM counters WHERE name = :name"), {"name": name})


async def test_a_lock_that_is_not_given_up_is_reported_as_busy(database: Database):
    async with database.transaction() as conn:
        await conn.execute(text("LOCK TABLE counters"))
        with pytest.raises(UnavailableError, match=r"database refuses for now: .*lock timeout"):
            await execute(database, "SET LOCAL lock_timeout = '20ms'", "UPDATE counters SET value = 1")


async def test_a_statement_that_takes_too_long_is_reported_as_busy(database: Database):
    with pytest.raises(UnavailableError, match=r"database refuses for now: .*statement timeout"):
        await execute(database, "SET LOCAL statement_timeout = '20ms'", "SELECT pg_sleep(60)")
    assert await count_keys(database) == 2


async def test_a_pool_that_is_used_up_is_reported_as_busy(database_url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(database_module, "CONNECT_SECONDS", 0.05)
    small = Database(database_url, pool_size=1)
    async with small.transaction():
        with pytest.raises(UnavailableError, match="all connections are in use"):
            await small.ping()
    await small.ping()
    await small.close()


async def test_a_session_that_is_killed_is_reported_and_the_next_one_works(database: Database):
    with pytest.raises(UnavailableError, match="does not answer"):
        await execute(database, "SELECT pg_terminate_backend(pg_backend_pid())")
    await database.ping()


async def test_sessions_killed_while_idle_are_replaced_unseen(database: Database, postgres: Embedded):
    await database.ping()
    await administer(
        postgres, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'studio-coordinator'"
    )
    await database.ping()


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://studio@127.0.0.1:1/studio",
        "postgresql+asyncpg://studio@/studio?host=/nonexistent",
    ],
)
async def test_a_server_that_is_not_there_is_reported_with_a_hint(url: str):
    away = Database(url)
    for attempt in (away.ping, away.upgrade, away.schema_revision):
        with pytest.raises(UnavailableError, match="the database does not answer") as caught:
            await attempt()
        assert "STUDIO_DATABASE_URL" in caught.value.hint
    await away.close()


async def test_a_database_that_does_not_exist_is_reported(postgres: Embedded):
    away = Database(url_of(postgres, "no_such_database"))
    with pytest.raises(UnavailableError, match=r'database "no_such_database" does not exist'):
        await away.ping()
    await away.close()


async def test_a_frozen_server_is_reported_in_bounded_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(database_module, "CONNECT_SECONDS", 1)
    monkeypatch.setattr(database_module, "ANSWER_SECONDS", 1)
    with running(tmp_path / "pg", FAST) as embedded:
        database = Database(embedded.url)
        try:
            async with database.transaction() as conn:
                backend = (await conn.execute(text("SELECT pg_backend_pid()"))).scalar_one()
                postmaster = int((embedded.data_dir / "postmaster.pid").read_text().split()[0])
            frozen = [postmaster, backend]
            for pid in frozen:
                os.kill(pid, signal.SIGSTOP)
            try:
                with pytest.raises(UnavailableError):
                    await database.ping()
            finally:
                for pid in frozen:
                    os.kill(pid, signal.SIGCONT)
            await database.ping()
        finally:
            await database.close()


async def test_upgrading_twice_at_once_is_safe(empty_database_url: str):
    coordinators = [Database(empty_database_url) for _ in range(3)]
    assert await coordinators[0].schema_revision() == ""
    revisions = await asyncio.gather(*(database.upgrade() for database in coordinators))
    assert revisions == [migrations.code_revision()] * 3
    assert await coordinators[0].schema_revision() == migrations.code_revision()
    for database in coordinators:
        await database.close()


async def test_a_newer_schema_that_allows_this_code_is_used_as_it_is(database: Database):
    await execute(database, "UPDATE alembic_version SET version_num = '9999'")
    assert await database.upgrade() == "9999"


async def test_a_newer_schema_that_needs_newer_code_is_refused(database: Database):
    await execute(
        database,
        "UPDATE alembic_version SET version_num = '9999'",
        "UPDATE schema_info SET oldest_code_revision = '9998'",
    )
    with pytest.raises(SchemaTooNewError, match="has schema 9999, which needs code of schema 9998 or newer"):
        await database.upgrade()


async def test_migrations_and_tables_agree(empty_database_url: str):
    assert await migration_problems(empty_database_url) == []


async def test_the_check_finds_what_differs(empty_database_url: str):
    connection = await asyncpg.connect(empty_database_url.replace("+asyncpg", ""))
    await connection.execute("CREATE TABLE stray (id int)")
    await connection.close()
    problems = await migration_problems(empty_database_url)
    assert any("remove_table" in problem and "stray" in problem for problem in problems)
    assert "the downgrade leaves the table stray" in problems
