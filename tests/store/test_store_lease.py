import asyncio

import pytest
from fakes.postgres import until_one_waits_for_a_lock
from sqlalchemy import text
from studio_coordinator.store import lease
from studio_coordinator.store.database import Database
from studio_coordinator.store.lease import Lease, LostLeaseError


async def ask(database: Database, holder: str, ttl_seconds: float = 60) -> Lease:
    async with database.transaction() as conn:
        return await lease.acquire_or_renew(conn, holder, f"{holder}:7070", ttl_seconds)


async def let_it_run_out(database: Database) -> None:
    async with database.transaction() as conn:
        await conn.execute(text("UPDATE leader_lease SET expires_at = clock_timestamp() - interval '1 second'"))


async def check(database: Database, epoch: int) -> None:
    async with database.transaction() as conn:
        await lease.check(conn, epoch)


async def test_the_first_who_asks_leads_and_others_learn_where(database: Database):
    assert await ask(database, "a") == Lease("a", "a:7070", 1, held=True)
    assert await ask(database, "b") == Lease("a", "a:7070", 1, held=False)


async def test_renewing_keeps_the_term(database: Database):
    await ask(database, "a")
    assert (await ask(database, "a")).epoch == 1
    await check(database, 1)


async def test_taking_over_a_lease_that_ran_out_begins_a_new_term(database: Database):
    await ask(database, "a")
    await let_it_run_out(database)
    assert await ask(database, "b") == Lease("b", "b:7070", 2, held=True)
    with pytest.raises(LostLeaseError, match="b leads in term 2"):
        await check(database, 1)
    await check(database, 2)


async def test_a_holder_that_comes_back_too_late_begins_a_new_term(database: Database):
    await ask(database, "a")
    await let_it_run_out(database)
    with pytest.raises(LostLeaseError, match="ran out"):
        await check(database, 1)
    assert (await ask(database, "a")).epoch == 2


async def test_a_released_lease_is_free_at_once(database: Database):
    await ask(database, "a")
    async with database.transaction() as conn:
        await lease.release(conn, "b")
    assert not (await ask(database, "b")).held
    async with database.transaction() as conn:
        await lease.release(conn, "a")
    assert (await ask(database, "b")).epoch == 2


async def test_nobody_leads_before_the_first(database: Database):
    with pytest.raises(LostLeaseError, match="nobody leads"):
        await check(database, 1)


async def test_of_many_who_ask_at_once_exactly_one_leads(database: Database):
    for expected_epoch in (1, 2, 3):
        answers = await asyncio.gather(*(ask(database, f"c{n}-{expected_epoch}") for n in range(6)))
        winners = [answer for answer in answers if answer.held]
        assert len(winners) == 1
        assert {(answer.holder, answer.epoch) for answer in answers} == {(winners[0].holder, expected_epoch)}
        await let_it_run_out(database)


async def test_nobody_takes_over_while_a_guarded_transaction_runs(database: Database):
    await ask(database, "a")
    async with database.transaction() as conn:
        await lease.check(conn, 1)
        # Even when the lease runs out meanwhile, whoever takes over waits for what the old leader is committing.
        taking_over = asyncio.create_task(ask_for_expired(database, "b"))
        await until_one_waits_for_a_lock(database)
        assert not taking_over.done()
    assert (await taking_over).holder == "b"


async def ask_for_expired(database: Database, holder: str) -> Lease:
    async with database.transaction() as conn:
        await conn.execute(text("UPDATE leader_lease SET expires_at = clock_timestamp() - interval '1 second'"))
        return await lease.acquire_or_renew(conn, holder, "", 60)
