"""The database restarts, loses sessions, or is frozen: no accepted write is lost, and requests are served all the while."""

import asyncio
import os
import random
import signal

import asyncpg
import pytest
from fakes.control_plane import ControlPlane

pytestmark = pytest.mark.asyncio(loop_scope="package")

# The whole minute with FROZEN_SECONDS=60; what outlasts every limit of the coordinators (15 s at most) is enough every day.
FROZEN_SECONDS = float(os.environ.get("FROZEN_SECONDS", "16"))


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
async def test_the_database_restarts(plane: ControlPlane, how: signal.Signals) -> None:
    await plane.settled(replicas=1)
    async with plane.writes(), asyncio.TaskGroup() as tasks:
        stream = tasks.create_task(plane.stream(tokens=60))
        await plane.postgres.stop(how)
        await plane.postgres.start()
        await plane.settled(replicas=2)
    assert stream.result() == 60
    plane.check_that_no_term_went_back()


async def test_sessions_of_the_database_are_killed_at_random(plane: ControlPlane) -> None:
    await plane.settled(replicas=1)
    seed = random.Random(7)
    async with plane.writes():
        for replicas in (2, 1, 2):
            await kill_some_backends(plane, seed)
            await plane.settled(replicas)
    plane.check_that_no_term_went_back()


async def kill_some_backends(plane: ControlPlane, seed: random.Random) -> None:
    url = plane.postgres.embedded.url.replace("postgresql+asyncpg", "postgresql")
    connection = await asyncpg.connect(url)
    try:
        sessions = "SELECT pid FROM pg_stat_activity WHERE application_name = 'studio-coordinator'"
        pids = [row["pid"] for row in await connection.fetch(sessions)]
        assert pids
        for pid in seed.sample(pids, max(1, len(pids) // 2)):
            await connection.execute("SELECT pg_terminate_backend($1)", pid)
    finally:
        await connection.close()


async def test_a_frozen_database_stops_nobody_who_is_served(plane: ControlPlane) -> None:
    await plane.settled(replicas=1)
    before = await plane.operator.ready()
    async with plane.writes(), asyncio.TaskGroup() as tasks:
        stream = tasks.create_task(plane.stream(tokens=int(20 * FROZEN_SECONDS)))
        await asyncio.sleep(0.5)
        plane.postgres.freeze()
        try:
            await asyncio.sleep(FROZEN_SECONDS)
        finally:
            plane.postgres.thaw()
        await plane.settled(replicas=2)
    assert stream.result() == int(20 * FROZEN_SECONDS)
    after = await plane.operator.ready()
    assert {(row.id, row.pid, row.restarts) for row in before} <= {(row.id, row.pid, row.restarts) for row in after}
    plane.check_that_no_term_went_back()
