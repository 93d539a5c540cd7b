"""The log only grows; who turns that off and changes it is found; writers that come at once make one chain."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import pytest
from sqlalchemy import exc, text
from studio.v1.access_service_pb2 import AuditAnchor, AuditEntry
from studio_coordinator.audit.chain import Verification
from studio_coordinator.store import audit
from studio_coordinator.store.database import Database

WRITERS = 32


def an_entry(number: int) -> AuditEntry:
    entry = AuditEntry(
        actor="ann", role="admin", action="AdminService/Apply", object=f"Recipe/r{number}, Recipe/x", outcome="OK"
    )
    entry.at.GetCurrentTime()
    return entry


async def written(database: Database, count: int) -> AuditAnchor:
    for number in range(1, count + 1):
        async with database.transaction() as conn:
            await audit.append(conn, an_entry(number))
    async with database.transaction() as conn:
        return await audit.head(conn)


async def findings(database: Database, anchors: Sequence[AuditAnchor] = ()) -> list[str]:
    verification = Verification(anchors)
    async with database.transaction() as conn:
        await audit.freeze(conn)
        head = await audit.head(conn)
        async for entry in audit.every_entry(conn):
            verification.take(entry)
    return verification.finish(head)


async def tamper(database: Database, *statements: str) -> None:
    """As a superuser can: without the trigger."""
    async with database.transaction() as conn:
        await conn.execute(text("ALTER TABLE audit DISABLE TRIGGER ALL"))
        for statement in statements:
            await conn.execute(text(statement))
        await conn.execute(text("ALTER TABLE audit ENABLE TRIGGER ALL"))


@pytest.mark.parametrize(
    "statement",
    ["UPDATE audit SET actor = 'nobody'", "DELETE FROM audit WHERE sequence = 2", "TRUNCATE audit"],
)
async def test_the_database_refuses_anything_but_growth(database: Database, statement: str):
    await written(database, 3)
    with pytest.raises(exc.DBAPIError, match="only grows"):
        async with database.transaction() as conn:
            await conn.execute(text(statement))
    assert await findings(database) == []


async def test_an_edited_row_is_named(database: Database):
    await written(database, 5)
    await tamper(database, "UPDATE audit SET after = '{}' WHERE sequence = 3")
    assert await findings(database) == ["entry 3 was edited"]


async def test_deleted_rows_are_named(database: Database):
    await written(database, 6)
    await tamper(database, "DELETE FROM audit WHERE sequence IN (2, 4, 5)")
    assert await findings(database) == ["entry 2 is missing", "entries 4 to 5 are missing"]


async def test_rows_that_changed_places_are_named(database: Database):
    await written(database, 4)
    await tamper(
        database,
        "UPDATE audit SET sequence = 99 WHERE sequence = 2",
        "UPDATE audit SET sequence = 2 WHERE sequence = 3",
        "UPDATE audit SET sequence = 3 WHERE sequence = 99",
    )
    assert await findings(database) == ["entry 2 was moved from 3", "entry 3 was moved from 2"]


async def test_a_tail_that_was_cut_off_is_found_by_the_head_or_by_an_anchor(database: Database):
    anchor = await written(database, 5)
    await tamper(database, "DELETE FROM audit WHERE sequence > 3")
    assert await findings(database) == ["entries 4 to 5 are missing"]
    await tamper(database, "UPDATE audit_head SET sequence = 3, hash = (SELECT hash FROM audit WHERE sequence = 3)")
    assert await findings(database) == []
    assert await findings(database, [anchor]) == ["entries 4 to 5 are missing"]


async def test_writers_that_come_at_once_make_one_chain(database: Database):
    async def write(number: int) -> None:
        async with database.transaction() as conn:
            await audit.append(conn, an_entry(number))

    await asyncio.gather(*(write(number) for number in range(WRITERS)))
    assert await findings(database) == []
    async with database.transaction() as conn:
        entries = await audit.list_entries(conn, WRITERS * 2)
    assert [entry.sequence for entry in entries] == list(range(1, WRITERS + 1))


async def test_a_transaction_that_fails_leaves_no_gap(database: Database):
    await written(database, 1)
    with suppress(RuntimeError):
        async with database.transaction() as conn:
            await audit.append(conn, an_entry(2))
            raise RuntimeError
    await written(database, 1)
    assert await findings(database) == []


async def test_entries_are_found_by_who_and_what(database: Database):
    await written(database, 3)
    async with database.transaction() as conn:
        assert [one.sequence for one in await audit.list_entries(conn, 2)] == [2, 3]
        assert [one.sequence for one in await audit.list_entries(conn, 2, after_sequence=1)] == [2, 3]
        assert [one.sequence for one in await audit.list_entries(conn, 9, object_name="Recipe/r2")] == [2]
        assert len(await audit.list_entries(conn, 9, object_name="Recipe/x")) == 3
        assert await audit.list_entries(conn, 9, actor="bob") == []


async def test_what_the_database_cannot_hold_is_hashed_as_it_is_kept(database: Database):
    entry = an_entry(1)
    entry.actor, entry.after = "a\0b", "{}\0"
    async with database.transaction() as conn:
        await audit.append(conn, entry)
    assert await findings(database) == []
