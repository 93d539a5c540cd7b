import asyncio
from datetime import timedelta

from builders import NOW, a_gpu, a_hello
from studio.v1.agent_service_pb2 import Hello
from studio.v1.host_pb2 import Gpu, Host, HostFacts
from studio_coordinator.store import hosts
from studio_coordinator.store.database import Database
from studio_coordinator.store.hosts import HostSession, HostState


async def open_session(database: Database, hello: Hello, host_id: str) -> HostSession:
    async with database.transaction() as conn:
        return await hosts.open_session(conn, hello, host_id, NOW)


async def listed(database: Database) -> list[Host]:
    async with database.transaction() as conn:
        return await hosts.list_hosts(conn)


async def test_a_first_session_stores_all_that_the_agent_says(database: Database):
    gpus = [a_gpu("GPU-b", 1, nvlink_peers=["GPU-a"], health=Gpu.HEALTH_DEGRADED), a_gpu("GPU-a", 0)]
    session = await open_session(database, a_hello("lab-1", *gpus, labels={"pool": "prod"}), "h1")
    assert session == HostSession("h1", "lab-1", session_epoch=1, event_sequence_acked=0)
    [host] = await listed(database)
    assert (host.id, host.name, host.state, dict(host.labels)) == (
        "h1",
        "lab-1",
        Host.STATE_CONNECTED,
        {"pool": "prod"},
    )
    assert host.facts == HostFacts(hostname="lab-1", cpu_count=16, memory_bytes=64 * 2**30)
    assert list(host.gpus) == [gpus[1], gpus[0]]
    assert host.first_seen.ToDatetime() == host.last_seen.ToDatetime() == NOW.replace(tzinfo=None)


async def test_a_new_session_replaces_what_was_known(database: Database):
    await open_session(database, a_hello("lab-1", a_gpu("GPU-a"), a_gpu("GPU-b")), "h1")
    session = await open_session(database, a_hello("lab-1", a_gpu("GPU-b", 5), boot_id="boot-2"), "h1")
    assert session.session_epoch == 2
    [host] = await listed(database)
    assert [(gpu.uuid, gpu.index) for gpu in host.gpus] == [("GPU-b", 5)]


async def test_a_gpu_that_is_reported_twice_is_one_gpu(database: Database):
    await open_session(database, a_hello("lab-1", a_gpu("GPU-a", 0), a_gpu("GPU-a", 1)), "h1")
    [host] = await listed(database)
    assert [(gpu.uuid, gpu.index) for gpu in host.gpus] == [("GPU-a", 1)]


async def test_two_gpus_of_different_hosts_may_have_one_uuid(database: Database):
    await open_session(database, a_hello("lab-1", a_gpu("GPU-a")), "h1")
    await open_session(database, a_hello("lab-2", a_gpu("GPU-a")), "h2")
    assert [len(host.gpus) for host in await listed(database)] == [1, 1]


async def test_names_are_made_unique_and_kept(database: Database):
    names = [(await open_session(database, a_hello("lab-1"), host_id)).name for host_id in ("h1", "h2", "h3", "h2")]
    assert names == ["lab-1", "lab-1-2", "lab-1-3", "lab-1-2"]


async def test_a_host_that_calls_itself_otherwise_is_renamed(database: Database):
    await open_session(database, a_hello("lab-1"), "h1")
    await open_session(database, a_hello("lab-2"), "h2")
    assert (await open_session(database, a_hello("lab-2"), "h1")).name == "lab-2-2"


async def test_a_host_without_a_name_is_called_by_its_hostname_or_id(database: Database):
    assert (await open_session(database, a_hello("", facts=HostFacts(hostname="box")), "h1")).name == "box"
    assert (await open_session(database, a_hello("", facts=HostFacts()), "h2")).name == "h2"


async def test_texts_that_postgres_cannot_hold_are_mended(database: Database):
    hello = a_hello("la\0b", facts=HostFacts(hostname="x\0y"), labels={"a\0": "b\0"}, boot_id="\0")
    assert (await open_session(database, hello, "h1")).name == "la\ufffdb"
    [host] = await listed(database)
    assert host.facts.hostname == "x\ufffdy"
    assert dict(host.labels) == {"a\ufffd": "b\ufffd"}


async def test_concurrent_first_sessions_of_one_host_get_different_epochs(database: Database):
    sessions = await asyncio.gather(*(open_session(database, a_hello("lab-1", a_gpu()), "h1") for _ in range(6)))
    assert sorted(session.session_epoch for session in sessions) == [1, 2, 3, 4, 5, 6]
    assert {session.name for session in sessions} == {"lab-1"}


async def test_concurrent_first_sessions_of_many_hosts_get_different_names(database: Database):
    sessions = await asyncio.gather(*(open_session(database, a_hello("lab"), f"h{n}") for n in range(6)))
    assert sorted(session.name for session in sessions) == ["lab", "lab-2", "lab-3", "lab-4", "lab-5", "lab-6"]


async def test_states_are_written_only_for_the_newest_session(database: Database):
    await open_session(database, a_hello("lab-1"), "h1")
    await open_session(database, a_hello("lab-2"), "h2")
    await open_session(database, a_hello("lab-2"), "h2")
    later = NOW + timedelta(seconds=9)
    states = [
        HostState(name, 1, Host.STATE_SUSPECT, "two heartbeats are missing", later) for name in ("h1", "h2", "h9")
    ]
    async with database.transaction() as conn:
        assert await hosts.set_states(conn, states) == 1
        assert await hosts.set_states(conn, []) == 0
    first, second = await listed(database)
    assert (first.state, first.state_reason) == (Host.STATE_SUSPECT, "two heartbeats are missing")
    assert first.last_seen.ToDatetime() == later.replace(tzinfo=None)
    assert second.state == Host.STATE_CONNECTED


async def test_a_state_may_leave_parts_as_they_are(database: Database):
    await open_session(database, a_hello("lab-1"), "h1")
    async with database.transaction() as conn:
        states = [HostState("h1", None, Host.STATE_LOST, "gone", None)]
        assert await hosts.set_states(conn, states) == 1
        assert await hosts.set_states(conn, [HostState.seen("h1", 1, NOW, -5)]) == 1
    [host] = await listed(database)
    assert (host.state, host.state_reason) == (Host.STATE_LOST, "gone")
    assert host.last_seen.ToDatetime() == (NOW + timedelta(seconds=5)).replace(tzinfo=None)


async def test_gpus_are_updated_only_by_the_newest_session(database: Database):
    session = await open_session(database, a_hello("lab-1", a_gpu("GPU-a")), "h1")
    async with database.transaction() as conn:
        assert await hosts.session_epoch(conn, "h1") == session.session_epoch
        assert await hosts.session_epoch(conn, "nobody") == 0
        assert not await hosts.update_gpus(conn, "h1", session.session_epoch + 1, [])
        assert not await hosts.update_gpus(conn, "nobody", 0, [])
        assert await hosts.update_gpus(
            conn, "h1", session.session_epoch, [a_gpu("GPU-c", health=Gpu.HEALTH_QUARANTINED)]
        )
    [host] = await listed(database)
    assert [(gpu.uuid, gpu.health) for gpu in host.gpus] == [("GPU-c", Gpu.HEALTH_QUARANTINED)]
