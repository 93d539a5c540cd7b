import asyncio
from collections.abc import Sequence
from datetime import timedelta

from builders import NOW, a_hello, an_agent_event, an_event
from fakes.postgres import until_one_waits_for_a_lock
from studio.v1.agent_service_pb2 import AgentEvent
from studio.v1.event_pb2 import Event
from studio_coordinator.store import events, hosts
from studio_coordinator.store.database import Database


async def append(database: Database, *batch: Event) -> list[int]:
    async with database.transaction() as conn:
        return await events.append(conn, batch)


async def listed(database: Database, **wanted: object) -> list[Event]:
    async with database.transaction() as conn:
        return await events.list_events(conn, **{"limit": 100, **wanted})


async def from_agent(database: Database, epoch: int, *batch: AgentEvent, host_id: str = "h1") -> int:
    async with database.transaction() as conn:
        return await events.append_from_agent(conn, host_id, epoch, batch)


async def open_session(database: Database) -> hosts.HostSession:
    async with database.transaction() as conn:
        return await hosts.open_session(conn, a_hello("lab-1"), "h1", NOW)


def messages(found: Sequence[Event]) -> list[str]:
    return [event.message for event in found]


async def test_events_get_sequences_in_their_order(database: Database):
    assert await append(database) == []
    assert await append(database, an_event(), an_event()) == [1, 2]
    assert await append(database, an_event()) == [3]
    async with database.transaction() as conn:
        assert await events.newest_sequence(conn) == 3


async def test_an_event_comes_back_as_it_was(database: Database):
    event = an_event(
        severity=Event.SEVERITY_ERROR,
        host="lab-1",
        deployment="chat",
        replica="chat-1",
        reason="oom",
        message="no\0memory",
        attributes={"code": "137"},
        actor="plan",
    )
    [event.sequence] = await append(database, event)
    event.message = "no\ufffdmemory"
    assert await listed(database) == [event]


async def test_the_newest_or_those_after_a_sequence(database: Database):
    await append(database, *(an_event(message=str(n)) for n in range(1, 8)))
    assert messages(await listed(database, limit=3)) == ["5", "6", "7"]
    assert messages(await listed(database, limit=3, after_sequence=2)) == ["3", "4", "5"]
    assert messages(await listed(database, after_sequence=7)) == []


async def test_events_are_filtered(database: Database):
    await append(
        database,
        an_event(message="1", host="a", deployment="chat", replica="chat-1"),
        an_event(message="2", host="b", deployment="chat", replica="chat-2"),
        an_event(message="3", host="b", deployment="embed"),
    )
    assert messages(await listed(database, deployment="chat")) == ["1", "2"]
    assert messages(await listed(database, host="b")) == ["2", "3"]
    assert messages(await listed(database, host="b", replica="chat-2", limit=1)) == ["2"]


async def test_a_batch_may_be_large(database: Database):
    assert len(await append(database, *(an_event() for _ in range(5_000)))) == 5_000


async def test_old_events_are_pruned(database: Database):
    await append(database, an_event(message="old", at_seconds=-60), an_event(message="new"))
    async with database.transaction() as conn:
        assert await events.prune(conn, NOW - timedelta(seconds=1)) == 1
    assert messages(await listed(database)) == ["new"]
    assert await append(database, an_event()) == [3]


async def test_sequences_become_visible_in_order(database: Database):
    async with database.transaction() as slow:
        await events.append(slow, [an_event(message="first")])
        fast = asyncio.create_task(append(database, an_event(message="second")))
        # The second would be visible before the first if it did not wait.
        await until_one_waits_for_a_lock(database)
        assert not fast.done()
        assert await listed(database) == []
    await fast
    assert messages(await listed(database)) == ["first", "second"]


async def test_events_of_an_agent_are_stored_once_and_under_the_hosts_name(database: Database):
    session = await open_session(database)
    batch = [an_agent_event(n, message=str(n), host="somebody-else") for n in (1, 2, 3)]
    assert await from_agent(database, session.session_epoch, *batch) == 3
    assert await from_agent(database, session.session_epoch, *batch[1:], an_agent_event(4, message="4")) == 4
    found = await listed(database, host="lab-1")
    assert messages(found) == ["1", "2", "3", "4"]
    assert (await open_session(database)).event_sequence_acked == 4


async def test_what_is_beyond_a_gap_waits_until_the_gap_is_filled(database: Database):
    session = await open_session(database)
    one, two, three = (an_agent_event(n, message=str(n)) for n in (1, 2, 3))
    assert await from_agent(database, session.session_epoch, three, one) == 1
    assert await from_agent(database, session.session_epoch, three, two, two) == 3
    assert messages(await listed(database)) == ["1", "2", "3"]


async def test_an_older_session_or_an_unknown_host_stores_nothing(database: Database):
    old = await open_session(database)
    new = await open_session(database)
    assert await from_agent(database, new.session_epoch, an_agent_event(1)) == 1
    assert await from_agent(database, old.session_epoch, an_agent_event(2)) == 1
    assert await from_agent(database, 1, an_agent_event(1), host_id="nobody") == 0
    assert len(await listed(database)) == 1


async def test_the_same_batch_twice_at_once_is_stored_once(database: Database):
    session = await open_session(database)
    batch = [an_agent_event(n, message=str(n)) for n in (1, 2, 3)]
    answers = await asyncio.gather(*(from_agent(database, session.session_epoch, *batch) for _ in range(5)))
    assert answers == [3] * 5
    assert messages(await listed(database)) == ["1", "2", "3"]
