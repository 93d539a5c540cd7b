import asyncio
from datetime import timedelta

import pytest
from builders import NOW, a_key, a_moment, a_usage_record
from studio.v1.admin_service_pb2 import UsageTotal
from studio.v1.route_pb2 import Price, UsageRecord
from studio_coordinator.store import access, prices, usage
from studio_coordinator.store.database import Database
from studio_runtime.errors import InvalidError


async def record(database: Database, *records: UsageRecord) -> int:
    async with database.transaction() as conn:
        return await usage.record(conn, "g1", records)


async def totals(database: Database, *group_by: str, seconds: float = 0) -> list[UsageTotal]:
    async with database.transaction() as conn:
        return await usage.totals(conn, NOW + timedelta(seconds=seconds), group_by)


async def test_a_record_counts_once(database: Database):
    assert await record(database) == 0
    assert await record(database, a_usage_record("r1"), a_usage_record("r2"), a_usage_record("r1")) == 2
    assert await record(database, a_usage_record("r2"), a_usage_record("r3")) == 1
    assert [total.requests for total in await totals(database)] == [3]


async def test_the_same_records_at_once_count_once(database: Database):
    records = [a_usage_record(f"r{n}") for n in range(50)]
    stored = await asyncio.gather(*(record(database, *records) for _ in range(5)))
    assert sum(stored) == 50


async def test_a_batch_may_be_large(database: Database):
    assert await record(database, *(a_usage_record(f"r{n}") for n in range(2_500))) == 2_500


async def test_totals_by_model(database: Database):
    await record(
        database,
        *(
            a_usage_record(f"a{n}", prompt_tokens=10, completion_tokens=n, time_to_first_token_seconds=n)
            for n in range(1, 102)
        ),
        a_usage_record("b1", model="embed", status=503),
    )
    chat, embed = await totals(database)
    assert chat == UsageTotal(
        model="chat",
        requests=101,
        prompt_tokens=1010,
        completion_tokens=5151,
        time_to_first_token_p50_seconds=51,
        time_to_first_token_p95_seconds=96,
        time_to_first_token_p99_seconds=100,
        duration_p50_seconds=0,
        duration_p95_seconds=0,
        duration_p99_seconds=0,
    )
    assert embed == UsageTotal(
        model="embed", requests=1, failed=1, duration_p50_seconds=0, duration_p95_seconds=0, duration_p99_seconds=0
    )


async def test_totals_by_key_and_day_from_a_time_on(database: Database):
    day = 86_400
    await record(
        database,
        a_usage_record("early", at_seconds=-1),
        a_usage_record("a", key_id="k1"),
        a_usage_record("b", key_id="k2"),
        a_usage_record("c", key_id="k2", at_seconds=day),
    )
    found = [
        (total.key_id, total.day, total.requests, total.model) for total in await totals(database, "key", "day", "key")
    ]
    assert found == [("k1", "2026-01-02", 1, ""), ("k2", "2026-01-02", 1, ""), ("k2", "2026-01-03", 1, "")]
    assert await totals(database, seconds=10 * day) == []


async def test_totals_by_user_are_of_whom_the_keys_belong_to(database: Database):
    async with database.transaction() as conn:
        for key_id, user in (("k1", "alice"), ("k2", "alice"), ("k3", "")):
            await access.create_key(conn, a_key(key_id, tenant="lab", user=user))
    await record(database, *(a_usage_record(f"r-{key_id}", key_id=key_id) for key_id in ("k1", "k2", "k3", "gone")))
    assert [(total.user, total.requests) for total in await totals(database, "user")] == [("", 2), ("alice", 2)]


async def test_a_stream_that_ended_with_an_error_is_a_failure_though_it_began_well(database: Database):
    ends = ("stop", "length", "upstream_error", "timeout", "shutting_down", "gateway_error")
    await record(database, *(a_usage_record(finish, finish=finish) for finish in ends))
    (total,) = await totals(database)
    assert (total.requests, total.failed) == (6, 4)


async def test_an_unknown_group_is_refused(database: Database):
    with pytest.raises(InvalidError, match="moon") as caught:
        await totals(database, "model", "moon")
    assert caught.value.hint == "Choose from tenant, user, model, key, day."


async def test_a_request_costs_what_its_model_cost_when_it_was_stored(database: Database):
    async with database.transaction() as conn:
        await prices.put_price(conn, Price(model="chat", prompt_micros=2_000_000, completion_micros=6_000_000))
    await record(database, a_usage_record("a", prompt_tokens=10, completion_tokens=5, cached_tokens=4))
    async with database.transaction() as conn:
        cheaper = Price(model="chat", prompt_micros=1_000_000, completion_micros=0, cached_micros=500_000)
        await prices.put_price(conn, cheaper)
    await record(database, a_usage_record("b", prompt_tokens=10, completion_tokens=5, cached_tokens=4))
    (chat,) = await totals(database)
    assert chat.cost_micros == (10 * 2 + 5 * 6) + (6 * 1 + 2)


async def test_a_key_remembers_when_it_was_last_used(database: Database):
    async with database.transaction() as conn:
        await access.create_key(conn, a_key("k1"))
        version = await access.access_version(conn)
    await record(database, a_usage_record("late", 30), a_usage_record("early", 10))
    await record(database, a_usage_record("earlier", 5))
    async with database.transaction() as conn:
        assert await access.last_used(conn) == {"k1": a_moment(30)}
        # Gateways do not follow it.
        assert await access.access_version(conn) == version


async def test_old_requests_are_pruned(database: Database):
    await record(database, a_usage_record("old", -100), a_usage_record("new", 100))
    async with database.transaction() as conn:
        assert await usage.prune(conn, NOW) == 1
        assert await usage.prune(conn, NOW) == 0
