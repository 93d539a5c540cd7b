"""How deep deployments rest, and when they were last asked for."""

from datetime import timedelta

import pytest
from builders import NOW, a_deployment_spec, a_recipe, a_replica
from google.protobuf.timestamp_pb2 import Timestamp
from studio.v1.deployment_pb2 import Deployment
from studio_coordinator.store import deployments, last_requests, recipes, replicas
from studio_coordinator.store.database import Database

LATER = NOW + timedelta(seconds=5)
SLEEP = Deployment.REST_SLEEP


def stamp_of_now() -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(NOW)
    return stamp


@pytest.fixture(autouse=True)
async def deployment(database: Database) -> None:
    async with database.transaction() as conn:
        await recipes.apply_recipe(conn, a_recipe(), "ann", NOW)
        await deployments.apply_deployment(conn, a_deployment_spec("chat"), "ann", NOW)


async def test_rest_is_kept_and_is_no_new_version(database: Database) -> None:
    async with database.transaction() as conn:
        before = await deployments.get_deployment(conn, "chat")
        assert before.rest == Deployment.REST_UNSPECIFIED
        assert await deployments.set_rest(conn, "chat", SLEEP, "nobody asked for it", NOW, None)
        after = await deployments.get_deployment(conn, "chat")
    assert (after.rest, after.rest_reason, after.rest_since) == (SLEEP, "nobody asked for it", stamp_of_now())
    assert after.version == before.version


async def test_a_change_that_was_overtaken_writes_nothing(database: Database) -> None:
    async with database.transaction() as conn:
        assert await deployments.set_rest(conn, "chat", SLEEP, "first", NOW, None)
        assert not await deployments.set_rest(conn, "chat", Deployment.REST_STOPPED, "second", LATER, None)
        assert (await deployments.get_deployment(conn, "chat")).rest_reason == "first"
        assert await deployments.set_rest(conn, "chat", Deployment.REST_AWAKE, "third", LATER, stamp_of_now())
        assert not await deployments.set_rest(conn, "nobody", SLEEP, "no such deployment", NOW, None)


async def test_a_replica_keeps_how_deep_it_is_to_sleep(database: Database) -> None:
    async with database.transaction() as conn:
        await replicas.insert_replica(conn, a_replica("chat-1", sleep_level=2))
        [stored] = await replicas.list_replicas(conn)
    assert stored.sleep_level == 2


async def test_the_later_request_counts_and_deployments_that_are_gone_are_passed_over(database: Database) -> None:
    async with database.transaction() as conn:
        await last_requests.note_requests(conn, {"gone": NOW})
        assert await last_requests.last_requests(conn) == {}
        await last_requests.note_requests(conn, {"chat": LATER, "gone": NOW})
        await last_requests.note_requests(conn, {"chat": NOW})
        assert await last_requests.last_requests(conn) == {"chat": LATER}
        await deployments.delete_deployment(conn, "chat", "ann", NOW)
        await deployments.purge_deployment(conn, "chat")
        assert await last_requests.last_requests(conn) == {}
