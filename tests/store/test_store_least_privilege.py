"""A coordinator whose role owns nothing: it works, and cannot edit the audit log, nor turn off what refuses that."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from fakes.postgres import administer, url_of
from sqlalchemy import exc, text
from studio.v1.access_service_pb2 import AuditEntry
from studio.v1.route_pb2 import Tenant
from studio_coordinator.embedded_postgres import Embedded
from studio_coordinator.store import audit, telemetry, tenants
from studio_coordinator.store.database import Database
from studio_runtime.errors import InvalidError

OWNER, LOGIN, NAME = "plain_owner", "plain_login", "guarded"


@pytest.fixture(scope="module")
def cluster(postgres: Embedded) -> Embedded:
    asyncio.run(
        administer(postgres, f"CREATE ROLE {LOGIN} LOGIN", f"CREATE ROLE {OWNER} LOGIN", f"GRANT {LOGIN} TO {OWNER}")
    )
    return postgres


@pytest.fixture
async def urls(cluster: Embedded) -> AsyncIterator[tuple[str, str]]:
    """Of the owner, who is no superuser, and of the coordinator's own role."""
    await administer(cluster, f"CREATE DATABASE {NAME} OWNER {OWNER}")
    superuser = url_of(cluster, NAME)
    yield superuser.replace("studio@", f"{OWNER}@"), superuser.replace("studio@", f"{LOGIN}@")
    await administer(cluster, f"DROP DATABASE {NAME} WITH (FORCE)")


@pytest.fixture
async def guarded(urls: tuple[str, str]) -> AsyncIterator[Database]:
    owner, login = urls
    database = Database(login)
    await database.upgrade(owner)
    yield database
    await database.close()


async def an_entry(database: Database) -> None:
    entry = AuditEntry(actor="ann", action="AdminService/Apply", outcome="OK")
    entry.at.GetCurrentTime()
    async with database.transaction() as conn:
        await audit.append(conn, entry)


async def test_it_reads_and_writes_and_makes_the_partitions_of_a_day(guarded: Database) -> None:
    await an_entry(guarded)
    async with guarded.transaction() as conn:
        blue = Tenant(name="blue", weight=1)
        blue.created_at.GetCurrentTime()
        await tenants.create_tenant(conn, blue)
        await telemetry.prepare_partitions(conn, datetime.now(UTC).date())
    async with guarded.transaction() as conn:
        assert [entry.actor for entry in await audit.list_entries(conn, 9)] == ["ann"]
        await tenants.remove_tenant(conn, "blue")
    # On a schema that is up to date it starts by itself, and so it does where the owner looks again.
    assert await guarded.upgrade() == await guarded.schema_revision()


async def test_the_owner_may_look_again_when_partitions_are_there(guarded: Database, urls: tuple[str, str]) -> None:
    async with guarded.transaction() as conn:
        await telemetry.prepare_partitions(conn, datetime.now(UTC).date())
    await guarded.upgrade(urls[0])
    async with guarded.transaction() as conn:
        await telemetry.prepare_partitions(conn, datetime.now(UTC).date())


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET actor = 'nobody'",
        "DELETE FROM audit",
        "TRUNCATE audit",
        "DROP TABLE audit",
        "ALTER TABLE audit DISABLE TRIGGER ALL",
        "ALTER TABLE audit OWNER TO plain_login",
        "CREATE OR REPLACE FUNCTION refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$",
        "DELETE FROM audit_head",
        "DROP TABLE tenants",
        "UPDATE schema_info SET oldest_code_revision = ''",
        "DELETE FROM alembic_version",
        "SET session_replication_role = replica",
        "SET ROLE plain_owner",
    ],
)
async def test_it_may_not(guarded: Database, statement: str) -> None:
    await an_entry(guarded)
    with pytest.raises(exc.DBAPIError, match=r"permission denied|must be owner|only grows"):
        async with guarded.transaction() as conn:
            await conn.execute(text(statement))


async def test_a_role_that_owns_the_log_anyway_is_refused(empty_database_url: str) -> None:
    database = Database(empty_database_url)
    try:
        with pytest.raises(InvalidError, match="owner of the audit log"):
            await database.upgrade(empty_database_url)
    finally:
        await database.close()
