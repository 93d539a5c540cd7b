"""The database is frozen for a whole minute, longer than every limit of those who use it."""

import asyncio
from pathlib import Path

from fakes.control_plane import running_control_plane

FROZEN_SECONDS = 60
TOKENS_PER_SECOND = 20


async def test_a_minute_without_the_database_stops_nobody_who_is_served(tmp_path: Path) -> None:
    async with running_control_plane(tmp_path) as plane:
        await plane.settled(replicas=1)
        before = await plane.operator.ready()
        async with plane.writes(), asyncio.TaskGroup() as tasks:
            stream = tasks.create_task(plane.stream(tokens=FROZEN_SECONDS * TOKENS_PER_SECOND))
            await asyncio.sleep(0.5)
            plane.postgres.freeze()
            try:
                # The minute is the subject, not a wait for something.
                await asyncio.sleep(FROZEN_SECONDS)
            finally:
                plane.postgres.thaw()
            await plane.settled(replicas=2)
        assert stream.result() == FROZEN_SECONDS * TOKENS_PER_SECOND
        after = {(row.id, row.pid, row.restarts) for row in await plane.operator.ready()}
        assert {(row.id, row.pid, row.restarts) for row in before} <= after
        plane.check_that_no_term_went_back()
