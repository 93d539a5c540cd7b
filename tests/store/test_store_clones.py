"""A copy of an identity locks it, in the audit log as well; one of a life that ended does not, however close the join is."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest
from fakes.sealed import SEALER
from sqlalchemy import text
from studio.v1.access_service_pb2 import AuditEntry
from studio.v1.identity_service_pb2 import Identity
from studio_coordinator.authority.enrolment import Enrolment, Validity
from studio_coordinator.authority.office import AuthorityOffice
from studio_coordinator.store import audit, identities
from studio_coordinator.store.database import Connection, Database
from studio_coordinator.store.identities import IdentityRow
from studio_runtime.errors import DeniedError
from studio_runtime.identity.names import NodeName

NOW = datetime(2026, 1, 1, tzinfo=UTC)
OLD = NodeName(Identity.KIND_AGENT, "i1", 2)
WAITING = text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")


def an_identity(generation: int, joined_generation: int) -> IdentityRow:
    identity = Identity(id="i1", kind=Identity.KIND_AGENT, name="h1", generation=generation, actor="alice")
    identity.created_at.FromDatetime(NOW)
    identity.expires_at.FromDatetime(NOW + timedelta(days=1))
    return IdentityRow(identity, joined_generation, "key", "authority", frozenset({"authority"}))


@pytest.fixture
async def enrolment(database: Database) -> Enrolment:
    async with database.transaction() as conn:
        await identities.put(conn, an_identity(5, 1))
    return Enrolment(database, AuthorityOffice(database, SEALER), b"pepper", Validity())


async def joins_again(conn: Connection) -> None:
    await identities.lock(conn, "i1")
    await identities.put(conn, an_identity(7, 7))


async def locked_reason(database: Database) -> str:
    async with database.transaction() as conn:
        row = await identities.get(conn, "i1")
    assert row is not None
    return row.identity.locked_reason


async def entries(database: Database) -> list[AuditEntry]:
    async with database.transaction() as conn:
        return await audit.list_entries(conn, 10, object_name="Identity/h1")


async def somebody_waits(database: Database) -> bool:
    async with database.transaction() as conn:
        return bool((await conn.execute(WAITING)).scalar_one())


async def test_that_an_identity_was_locked_is_in_the_audit_log_once(enrolment: Enrolment) -> None:
    for peer in ("ipv4:127.0.0.1:1", "ipv4:127.0.0.1:2"):
        with pytest.raises(DeniedError, match="two machines"):
            await enrolment.admit(OLD, peer)
    (entry,) = await entries(enrolment.database)
    assert (entry.actor, entry.role, entry.action) == ("h1", "agent", "identity-lock")
    assert entry.peer == "ipv4:127.0.0.1:1"
    assert json.loads(entry.after)["locked_reason"] == await locked_reason(enrolment.database)


async def test_a_copy_that_calls_while_the_right_machine_joins_does_not_lock_it(enrolment: Enrolment) -> None:
    database = enrolment.database
    async with database.transaction() as conn:
        await joins_again(conn)
        # It reads the row as it was, and then waits for what this transaction makes of it.
        calling = asyncio.create_task(enrolment.admit(OLD))
        while not await somebody_waits(database):
            await asyncio.sleep(0.01)
    with pytest.raises(DeniedError, match="joined again"):
        await calling
    assert not await locked_reason(database)
    assert not await entries(database)


async def test_agents_that_called_in_turn_before_a_join_do_not_lock_it(enrolment: Enrolment) -> None:
    database = enrolment.database
    admitted = await enrolment.admit(NodeName(Identity.KIND_AGENT, "i1", 5))
    async with database.transaction() as conn:
        await joins_again(conn)
    assert "joined again" in (await enrolment.lock(admitted, "they call in turn")).message
    assert not await locked_reason(database)
    current = await enrolment.admit(NodeName(Identity.KIND_AGENT, "i1", 7))
    assert "they call in turn" in (await enrolment.lock(current, "they call in turn")).message
    assert await locked_reason(database) == "they call in turn"
