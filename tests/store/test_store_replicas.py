import pytest
from builders import NOW, a_deployment_spec, a_hello, a_moment, a_recipe, a_replica
from sqlalchemy.exc import IntegrityError
from studio.v1.replica_pb2 import Failure, Replica, StartProgress
from studio_coordinator.store import deployments, hosts, recipes, replicas
from studio_coordinator.store.database import Database
from studio_runtime.errors import ConflictError


@pytest.fixture(autouse=True)
async def deployment(database: Database) -> None:
    async with database.transaction() as conn:
        await recipes.apply_recipe(conn, a_recipe(), "ann", NOW)
        await deployments.apply_deployment(conn, a_deployment_spec("chat"), "ann", NOW)
        await deployments.apply_deployment(conn, a_deployment_spec("chat-1"), "ann", NOW)
        await hosts.open_session(conn, a_hello("lab-1"), "h1", NOW)


async def insert(database: Database, *rows: Replica) -> None:
    async with database.transaction() as conn:
        for row in rows:
            await replicas.insert_replica(conn, row)


async def listed(database: Database, deployment: str = "") -> list[Replica]:
    async with database.transaction() as conn:
        return await replicas.list_replicas(conn, deployment)


async def test_a_replica_comes_back_with_all_of_it_and_its_hosts_name(database: Database):
    row = a_replica(
        "chat-1",
        host_id="h1",
        gpu_uuids=["GPU-b", "GPU-a"],
        state=Replica.STATE_FAILED,
        state_reason="it exited",
        progress=StartProgress(phase=StartProgress.PHASE_WEIGHTS, share=0.5, phase_since=a_moment(1)),
        failure=Failure(reason="exited", cause_line="Killed\0", exit_code=0, at=a_moment(2), retryable=True),
        base_url="http://127.0.0.1:1",
        pid=42,
        restarts=3,
        retry_at=a_moment(10.000001),
        engine_ready=True,
        retiring=True,
        retiring_reason="scaled down",
        generation=7,
    )
    await insert(database, row)
    [stored] = await listed(database)
    row.failure.cause_line = "Killed\ufffd"
    row.host_name = "lab-1"
    row.version = 1
    assert stored == row


async def test_a_replica_without_a_host_has_neither_host_nor_times(database: Database):
    await insert(database, a_replica("chat-1"))
    [stored] = await listed(database)
    assert (stored.host_id, stored.host_name) == ("", "")
    assert not stored.HasField("progress")
    assert not stored.HasField("failure")
    assert not stored.HasField("retry_at")


async def test_an_update_needs_the_newest_version(database: Database):
    await insert(database, a_replica("chat-1"))
    [row] = await listed(database)
    row.state, row.host_id = Replica.STATE_STARTING, "h1"
    async with database.transaction() as conn:
        assert await replicas.update_replica(conn, row)
        row.state = Replica.STATE_READY
        assert not await replicas.update_replica(conn, row)
    [stored] = await listed(database)
    assert (stored.state, stored.version, stored.host_id) == (Replica.STATE_STARTING, 2, "h1")


async def test_what_an_update_unsets_is_gone(database: Database):
    await insert(database, a_replica("chat-1", host_id="h1", failure=Failure(reason="x"), retry_at=a_moment()))
    [row] = await listed(database)
    for name in ("failure", "retry_at", "host_id", "host_name"):
        row.ClearField(name)
    async with database.transaction() as conn:
        assert await replicas.update_replica(conn, row)
    row.version += 1
    assert await listed(database) == [row]


async def test_replicas_are_listed_by_deployment_and_number(database: Database):
    await insert(database, *(a_replica(name) for name in ("chat-10", "chat-1-1", "chat-2")))
    assert [row.id for row in await listed(database)] == ["chat-2", "chat-10", "chat-1-1"]
    assert [row.id for row in await listed(database, "chat-1")] == ["chat-1-1"]


async def test_a_deleted_replica_is_gone_and_deleting_it_twice_is_harmless(database: Database):
    await insert(database, a_replica("chat-1"))
    async with database.transaction() as conn:
        await replicas.delete_replica(conn, "chat-1")
        await replicas.delete_replica(conn, "chat-1")
    assert await listed(database) == []


@pytest.mark.parametrize("wrong", [{"deployment": "nobody"}, {"recipe_revision": 9}, {"host_id": "nowhere"}])
async def test_a_replica_of_what_does_not_exist_is_a_conflict(database: Database, wrong: dict[str, object]):
    with pytest.raises(ConflictError, match="another change came first"):
        await insert(database, a_replica("chat-3", **{"deployment": "chat", **wrong}))


async def test_a_second_replica_of_the_same_id_is_a_bug(database: Database):
    await insert(database, a_replica("chat-2"))
    with pytest.raises(IntegrityError):
        await insert(database, a_replica("chat-2"))


async def test_the_parts_of_a_replica_over_several_hosts_come_and_go_with_it(database: Database):
    async with database.transaction() as conn:
        for name in ("lab-2", "lab-3"):
            await hosts.open_session(conn, a_hello(name), name.replace("lab-", "h"), NOW)
    row = a_replica("chat-1", host_id="h1", host_name="lab-1", gpu_uuids=["GPU-a"], version=1)
    for rank in (1, 2):
        row.members.add(
            rank=rank,
            host_id=f"h{rank + 1}",
            host_name=f"lab-{rank + 1}",
            gpu_uuids=[f"GPU-{rank}"],
            state=Replica.STATE_STARTING,
            state_reason="it loads",
        )
    await insert(database, row)
    assert await listed(database) == [row]
    row.members[1].state = Replica.STATE_READY
    async with database.transaction() as conn:
        assert await replicas.update_replica(conn, row)
    row.version = 2
    assert await listed(database) == [row]
    async with database.transaction() as conn:
        row.version = 1
        row.members[0].state = Replica.STATE_FAILED
        assert not await replicas.update_replica(conn, row), "an older version writes no part either"
    assert (await listed(database))[0].members[0].state == Replica.STATE_STARTING
    async with database.transaction() as conn:
        await replicas.delete_replica(conn, "chat-1")
    await insert(database, a_replica("chat-1", host_id="h1"))
    assert not (await listed(database))[0].members


async def test_a_start_is_a_try_that_no_replica_has_reached(database: Database):
    await insert(database, a_replica("chat-1", generation=5))
    async with database.transaction() as conn:
        started = await deployments.set_stopped(conn, "chat", False, "ann", NOW)
    assert started.tries == 5, "a replica of generation 5 that gave up begins anew as generation 6"
