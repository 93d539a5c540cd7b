import asyncio
import random
from collections import defaultdict
from datetime import datetime, timedelta

import pytest
from builders import NOW, a_key
from studio.v1.route_pb2 import Limits, Tenant
from studio.v1.route_service_pb2 import (
    LeaseQuotaRequest,
    LeaseQuotaResponse,
    QuotaNeed,
    QuotaSettlement,
    QuotaSubject,
)
from studio_coordinator.quota import window_of
from studio_coordinator.rpc.quota import check, lease
from studio_coordinator.store import access, tenants
from studio_coordinator.store.database import Database
from studio_runtime.errors import InvalidError

REQUESTS = QuotaSubject.BOUND_REQUESTS_PER_MINUTE
SLOTS = QuotaSubject.BOUND_CONCURRENCY
BUDGET = QuotaSubject.BOUND_TOKEN_BUDGET
MINUTE = timedelta(minutes=1)


class Asker:
    """A gateway that asks one after the other."""

    def __init__(self, database: Database, name: str, instance: str = "") -> None:
        self.database = database
        self.name = name
        self.instance = instance or f"{name}-1"
        self.sequence = 0
        self.is_last = False

    async def ask(
        self, *needs: QuotaNeed, settle: list[QuotaSettlement] | None = None, at: datetime = NOW
    ) -> LeaseQuotaResponse:
        self.sequence += 1
        return await self.again(*needs, settle=settle, at=at)

    async def again(
        self, *needs: QuotaNeed, settle: list[QuotaSettlement] | None = None, at: datetime = NOW
    ) -> LeaseQuotaResponse:
        request = LeaseQuotaRequest(
            gateway_id=self.name,
            gateway_instance_id=self.instance,
            sequence=self.sequence,
            needs=needs,
            settlements=settle or [],
            minute=int(at.timestamp() // 60),
            is_last=self.is_last,
        )
        check(request)
        async with self.database.transaction() as conn:
            return await lease(conn, request, at)

    async def amount(self, need: QuotaNeed, *, settle: list[QuotaSettlement] | None = None, at: datetime = NOW) -> int:
        return (await self.ask(need, settle=settle, at=at)).grants[0].amount


def of_key(bound: QuotaSubject.Bound.ValueType, amount: int = 1) -> QuotaNeed:
    return QuotaNeed(subject=QuotaSubject(key_id="k", bound=bound), amount=amount)


def given_back(
    bound: QuotaSubject.Bound.ValueType, returned: int, at: datetime = NOW, overdrawn: int = 0
) -> QuotaSettlement:
    window = window_of(bound, Limits.PERIOD_DAY, at.timestamp())
    subject = QuotaSubject(key_id="k", bound=bound)
    return QuotaSettlement(subject=subject, window=window, returned=returned, overdrawn=overdrawn)


@pytest.fixture
async def key(database: Database) -> Database:
    limits = Limits(requests_per_minute=100, concurrency=5, token_budget=1000, budget_period=Limits.PERIOD_DAY)
    async with database.transaction() as conn:
        await access.create_key(conn, a_key("k", limits=limits))
    return database


async def test_all_leases_together_are_the_bound_and_not_one_more(key: Database):
    one, two = Asker(key, "g1"), Asker(key, "g2")
    got = [await asker.amount(of_key(REQUESTS)) for _ in range(60) for asker in (one, two)]
    # Nothing is kept for a gateway that has asked in this minute.
    assert sum(got) == 100
    assert got[-1] == 0


async def test_the_next_minute_begins_anew(key: Database):
    one = Asker(key, "g1")
    assert await one.amount(of_key(REQUESTS, 100)) == 100
    assert await one.amount(of_key(REQUESTS)) == 0
    assert await one.amount(of_key(REQUESTS), at=NOW + MINUTE) > 0


async def test_a_refusal_says_when_to_ask_again(key: Database):
    one = Asker(key, "g1")
    await one.ask(of_key(REQUESTS, 100))
    answer = (await one.ask(of_key(REQUESTS))).grants[0]
    assert 1 <= answer.retry_after.seconds <= 60


async def test_a_request_that_is_repeated_is_answered_again_and_counted_once(key: Database):
    one, two = Asker(key, "g1"), Asker(key, "g2")
    first = await one.ask(of_key(REQUESTS, 40))
    assert await one.again(of_key(REQUESTS, 40)) == first
    assert await two.amount(of_key(REQUESTS, 100)) == 100 - first.grants[0].amount


async def test_a_request_that_was_overtaken_is_refused(key: Database):
    one = Asker(key, "g1")
    await one.ask(of_key(REQUESTS))
    await one.ask(of_key(REQUESTS))
    one.sequence = 1
    with pytest.raises(InvalidError, match="overtaken"):
        await one.again(of_key(REQUESTS))


async def test_what_is_given_back_can_be_leased_again(key: Database):
    one, two = Asker(key, "g1"), Asker(key, "g2")
    assert await one.amount(of_key(BUDGET, 1000)) == 1000
    assert await two.amount(of_key(BUDGET, 10)) == 0
    await one.ask(settle=[given_back(BUDGET, 300)])
    assert await two.amount(of_key(BUDGET, 1000)) == 300


async def test_what_was_overdrawn_is_missing_afterwards(key: Database):
    one = Asker(key, "g1")
    await one.ask(of_key(BUDGET, 400), settle=[given_back(BUDGET, 0, overdrawn=500)])
    assert await one.amount(of_key(BUDGET, 1000)) <= 100


async def test_what_is_given_back_of_an_earlier_window_counts_no_more(key: Database):
    one = Asker(key, "g1")
    await one.ask(of_key(REQUESTS, 100))
    later = NOW + MINUTE
    assert await one.amount(of_key(REQUESTS, 100), settle=[given_back(REQUESTS, 100)], at=later) == 100
    assert await one.amount(of_key(REQUESTS, 100), at=later) == 0


async def test_slots_come_back_and_those_of_a_dead_gateway_too(key: Database):
    one, two = Asker(key, "g1"), Asker(key, "g2")
    assert await one.amount(of_key(SLOTS, 4)) == 4
    assert await two.amount(of_key(SLOTS, 4)) == 1
    assert await two.amount(of_key(SLOTS, 2), settle=[given_back(SLOTS, 1)]) == 1
    reborn = Asker(key, "g1", "g1-2")
    assert await reborn.amount(of_key(SLOTS, 5)) == 4


async def test_a_gateway_that_says_that_it_lives_keeps_its_slots(key: Database):
    one, two = Asker(key, "g1"), Asker(key, "g2")
    assert await one.amount(of_key(SLOTS, 5)) == 5
    for minutes in range(30, 150, 30):
        await one.ask(at=NOW + minutes * MINUTE)
    assert await two.amount(of_key(SLOTS), at=NOW + 150 * MINUTE) == 0
    assert await two.amount(of_key(SLOTS, 5), at=NOW + 181 * MINUTE) == 5, "an hour after its last sign of life"


async def test_for_a_gateway_that_has_ended_nothing_is_kept(key: Database):
    one, two = Asker(key, "g1/worker-0"), Asker(key, "g1/worker-1")
    assert (await one.ask(of_key(REQUESTS), of_key(SLOTS, 5))).grants[0].outage_amount > 0
    one.is_last = True
    await one.ask(settle=[given_back(SLOTS, 5)])
    later = NOW + MINUTE
    assert await two.amount(of_key(REQUESTS, 100), at=later) == 100
    assert await two.amount(of_key(SLOTS, 5), at=later) == 5


async def test_slots_in_use_outlast_the_last_request_of_their_gateway(key: Database):
    one, two = Asker(key, "g1/worker-0"), Asker(key, "g1/worker-1")
    await one.ask(of_key(SLOTS, 3))
    one.is_last = True
    await one.ask(settle=[given_back(SLOTS, 1)])
    assert await two.amount(of_key(SLOTS, 5)) == 3


async def test_a_last_request_that_is_repeated_gives_back_once(key: Database):
    one, two = Asker(key, "g1"), Asker(key, "g2")
    await two.ask(of_key(BUDGET, 500))
    await one.ask(of_key(BUDGET, 500))
    one.is_last = True
    await one.ask(settle=[given_back(BUDGET, 100)])
    await one.again(settle=[given_back(BUDGET, 100)])
    assert await two.amount(of_key(BUDGET, 1000)) == 100


async def test_a_gateway_on_its_own_finds_its_part_of_the_minute_kept(key: Database):
    one, two = Asker(key, "g1"), Asker(key, "g2")
    kept = (await one.ask(of_key(REQUESTS))).grants[0].outage_amount
    assert kept > 0
    kept += (await two.ask(of_key(REQUESTS))).grants[0].outage_amount
    assert kept <= 100
    # In the next minute one has not asked: it may be on its own.
    one_kept = kept - (await two.ask(of_key(REQUESTS))).grants[0].outage_amount
    leased = await two.amount(of_key(REQUESTS, 100), at=NOW + MINUTE)
    assert leased + one_kept <= 100
    # Once it has asked, the rest is free.
    assert leased + await one.amount(of_key(REQUESTS, 100), at=NOW + MINUTE) == 100


async def test_a_tenant_has_bounds_of_its_own(database: Database):
    async with database.transaction() as conn:
        tenant = Tenant(name="lab", limits=Limits(concurrency=2))
        tenant.created_at.FromDatetime(NOW)
        await tenants.create_tenant(conn, tenant)
    subject = QuotaSubject(tenant="lab", bound=SLOTS)
    assert await Asker(database, "g1").amount(QuotaNeed(subject=subject, amount=3)) == 2


async def test_each_user_of_a_tenant_has_the_same_bound(database: Database):
    async with database.transaction() as conn:
        tenant = Tenant(name="lab", user_limits=Limits(concurrency=2))
        tenant.created_at.FromDatetime(NOW)
        await tenants.create_tenant(conn, tenant)
    asker = Asker(database, "g1")

    def of(user: str, amount: int) -> QuotaNeed:
        return QuotaNeed(subject=QuotaSubject(user=user, bound=SLOTS), amount=amount)

    assert await asker.amount(of("lab/alice", 3)) == 2
    assert await asker.amount(of("lab/bob", 1)) == 1
    assert await asker.amount(of("web/alice", 9)) == 9, "another tenant's says nothing"


async def test_a_bound_that_was_lifted_binds_no_more(database: Database):
    async with database.transaction() as conn:
        await access.create_key(conn, a_key("k"))
    assert await Asker(database, "g1").amount(of_key(REQUESTS, 7)) == 7


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_happens_no_window_is_overspent(key: Database, seed: int):
    """Gateways ask, give back, die, lose answers and go on alone, all at once."""
    chance = random.Random(seed)
    spent: dict[int, int] = defaultdict(int)
    at = NOW
    askers = [Asker(key, f"g{number}") for number in range(3)]
    alone: dict[str, int] = {}
    for _ in range(8):
        window = int(at.timestamp() // 60)
        cut_off = {asker.name for asker in askers if chance.random() < 0.3}
        for name in cut_off:
            spent[window] += alone.get(name, 0)

        async def turn(asker: Asker, window: int = window, at: datetime = at) -> None:
            for _ in range(chance.randrange(1, 5)):
                answer = (await asker.ask(of_key(REQUESTS, chance.randrange(1, 60)), at=at)).grants[0]
                if chance.random() < 0.3:
                    assert (await asker.again(of_key(REQUESTS, 1), at=at)).grants[0] == answer
                alone[asker.name] = answer.outage_amount
                unused = chance.randrange(answer.amount + 1)
                spent[window] += answer.amount - unused
                await asker.ask(settle=[given_back(REQUESTS, unused, at)], at=at)

        await asyncio.gather(*(turn(asker) for asker in askers if asker.name not in cut_off))
        if chance.random() < 0.2:
            reborn = chance.randrange(3)
            askers[reborn] = Asker(key, f"g{reborn}", f"g{reborn}-{chance.random()}")
            alone.pop(f"g{reborn}", None)
        at += MINUTE
    assert max(spent.values()) <= 100
    assert sum(spent.values()) > 0
