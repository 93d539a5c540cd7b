"""The copies in memory are what the tables are, whoever wrote, however."""

from datetime import UTC, datetime

from sqlalchemy import text
from studio.v1.agent_service_pb2 import Hello
from studio.v1.assignment_pb2 import Assignment
from studio.v1.host_pb2 import Gpu, Host
from studio_coordinator.knowledge.stored import StoredFleet
from studio_coordinator.store import assignments, hosts
from studio_coordinator.store.changes import Watched, look
from studio_coordinator.store.database import STATEMENTS, Database


async def join(database: Database, *names: str, gpus: int = 1) -> None:
    async with database.transaction() as conn:
        for name in names:
            devices = [Gpu(uuid=f"GPU-{name}-{number}", index=number, model="H100") for number in range(gpus)]
            await hosts.open_session(conn, Hello(host_id=name, host_name=name, gpus=devices), name, datetime.now(UTC))


async def check(fleet: StoredFleet, database: Database) -> list[Host]:
    """Refresh, and compare with all that is stored; when hosts were last seen may differ."""
    async with database.transaction() as conn:
        await fleet.refresh(conn)
        stored, documents = await hosts.list_hosts(conn), await assignments.list_assignments(conn)
    mine = [Host.FromString(one.message) for one in fleet.hosts()]
    for host in (*stored, *mine):
        host.ClearField("last_seen")
    assert mine == stored
    assert fleet.assignments() == documents
    return mine


async def test_everything_that_is_written_shows(database: Database) -> None:
    fleet = StoredFleet()
    assert await check(fleet, database) == []
    await join(database, "a", "b", gpus=2)
    await check(fleet, database)
    async with database.transaction() as conn:
        host = await hosts.find_host(conn, "b")
        host.cordoned = True
        await hosts.update_host(conn, host)
        await assignments.put_assignment(conn, "a", Assignment(generation=1), 1)
    await check(fleet, database)
    async with database.transaction() as conn:
        await assignments.put_assignments(conn, {"a": Assignment(generation=2), "b": Assignment(generation=1)}, 1)
        await conn.execute(text("UPDATE gpus SET health_reason = 'by hand' WHERE uuid = 'GPU-a-1'"))
    (a, _) = await check(fleet, database)
    assert a.gpus[1].health_reason == "by hand"
    async with database.transaction() as conn:
        await hosts.remove_host(conn, "a")
    assert len(await check(fleet, database)) == 1
    await join(database, "a")
    assert len(await check(fleet, database)) == 2


async def test_a_gpu_that_went_shows(database: Database) -> None:
    fleet = StoredFleet()
    await join(database, "a", gpus=3)
    await check(fleet, database)
    await join(database, "a", gpus=2)
    (a,) = await check(fleet, database)
    assert len(a.gpus) == 2


async def test_a_heartbeat_and_a_reconnect_are_no_change(database: Database) -> None:
    fleet = StoredFleet()
    await join(database, "a", "b")
    (before, _) = (await check(fleet, database), fleet.hosts())
    kept = fleet.hosts()
    await join(database, "a", "b")
    async with database.transaction() as conn:
        await hosts.set_states(conn, [hosts.HostState.seen("a", 2, datetime.now(UTC), 0)])
    assert await check(fleet, database) == before
    assert all(one is other for one, other in zip(fleet.hosts(), kept, strict=True))


async def test_what_was_rolled_back_is_not_kept(database: Database) -> None:
    fleet = StoredFleet()
    await join(database, "a")
    await check(fleet, database)

    async with database.transaction() as conn:
        await conn.execute(text("UPDATE hosts SET cordoned = true"))
        await fleet.refresh(conn)
        await conn.rollback()
    (a,) = await check(fleet, database)
    assert not a.cordoned


async def test_a_transaction_that_ends_late_is_not_missed(database: Database) -> None:
    fleet = StoredFleet()
    await join(database, "a", "b")
    await check(fleet, database)
    async with database.transaction() as slow:
        await slow.execute(text("UPDATE hosts SET cordoned = true WHERE id = 'a'"))
        # A later transaction ends first, and is seen.
        async with database.transaction() as conn:
            await conn.execute(text("UPDATE hosts SET cordoned = true WHERE id = 'b'"))
        await check(fleet, database)
    assert all(host.cordoned for host in await check(fleet, database))


async def test_rows_that_came_back_from_a_backup_are_found(database: Database) -> None:
    fleet = StoredFleet()
    await join(database, "a")
    await check(fleet, database)
    async with database.transaction() as conn:
        await conn.execute(text("SET LOCAL session_replication_role = replica"))
        await conn.execute(text("UPDATE hosts SET cordoned = true, changed_in = 3"))
    (a,) = await check(fleet, database)
    assert a.cordoned


async def test_a_look_at_a_quiet_fleet_reads_nothing(database: Database) -> None:
    fleet = StoredFleet()
    await join(database, *(f"h{number}" for number in range(30)))
    await check(fleet, database)
    before = STATEMENTS._value.get()
    async with database.transaction() as conn:
        await fleet.refresh(conn)
        assert STATEMENTS._value.get() - before == 1
        horizon = (await look(conn, {Watched.HOSTS: 0}))[Watched.HOSTS].horizon
        assert (await look(conn, {Watched.HOSTS: horizon}))[Watched.HOSTS].stamps == {}
