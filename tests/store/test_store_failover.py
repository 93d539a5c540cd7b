"""What a change of leader rests on in the database."""

from studio_coordinator.store import key_pepper, lease
from studio_coordinator.store.database import Database


async def ask(database: Database, *, renews: bool) -> int:
    async with database.transaction() as conn:
        return (await lease.acquire_or_renew(conn, "a", "a:7070", 60, renews=renews)).epoch


async def test_a_restarted_coordinator_takes_its_own_lease_in_a_new_term(database: Database) -> None:
    assert await ask(database, renews=False) == 1
    assert await ask(database, renews=True) == 1
    assert await ask(database, renews=False) == 2


async def test_a_term_begins_above_all_that_was_seen(database: Database) -> None:
    await ask(database, renews=False)
    async with database.transaction() as conn:
        assert await lease.raise_epoch(conn, above=7) == 8
        assert await lease.raise_epoch(conn, above=3) == 9
    assert await ask(database, renews=True) == 9


async def test_the_first_pepper_counts_and_another_does_not_agree(database: Database) -> None:
    async with database.transaction() as conn:
        assert await key_pepper.agree(conn, b"one")
        assert await key_pepper.agree(conn, b"one")
        assert not await key_pepper.agree(conn, b"two")
