"""A part of a replica over several hosts that answers no requests itself: how it joins the others, and what it waits for.

It has no completions to prove itself by. It serves when it has joined rank 0, and the whole serves when rank 0 answers.
"""

import asyncio
import contextlib
import re
from collections.abc import Callable
from pathlib import Path

from studio.v1.assignment_pb2 import Group
from studio.v1.replica_pb2 import Failure, StartProgress

from studio_agent.engines.base import CanSpan, Driver
from studio_agent.errors import EngineFailedError
from studio_agent.logfiles import LineFollower
from studio_agent.models.size import bytes_on_disk
from studio_agent.plan.record import Engine, ReplicaRecord
from studio_agent.supervise.equipment import Equipment
from studio_agent.supervise.observation import base_url
from studio_agent.supervise.readiness import PROBE_SECONDS, Clock

LEADER_LOOK_SECONDS = 0.5
LEADER_ANSWER_SECONDS = 5.0
# It may be between two processes of its engine.
LEADER_MISSES = 2


async def until_joined(
    equipment: Equipment,
    record: ReplicaRecord,
    engine: Engine,
    driver: Driver,
    report: Callable[[StartProgress], None],
) -> None:
    """Return when the engine has joined rank 0. Raises EngineFailedError; that the engine ends is for others to see."""
    if not isinstance(driver, CanSpan):
        raise EngineFailedError(Failure(reason="recipe", message=f"{driver.name} runs on one host"))
    sign = driver.joined
    url = base_url(equipment.settings.engine_address, engine.port)
    follower = LineFollower(Path(engine.log_path), engine.log_offset)
    model_bytes = await bytes_on_disk(equipment.models, record.assigned.recipe.model)
    clock, doing = Clock(equipment.settings.start, model_bytes), "nothing in its log"
    while True:
        for line in follower.new_lines():
            if (progress := driver.progress(line)) is not None:
                clock.progressed()
                doing = progress.detail or StartProgress.Phase.Name(progress.phase)
                report(progress)
            if sign.line and re.search(sign.line, line):
                return
        clock.check(doing)
        if sign.path and await equipment.prober.is_up(url + sign.path):
            return
        await asyncio.sleep(PROBE_SECONDS)


async def until_leader_is_gone(group: Group) -> None:
    """Return when rank 0 listens for the others no more: what it had to finish is finished."""
    misses = 0
    while misses < LEADER_MISSES:
        misses = 0 if await _listens(group) else misses + 1
        await asyncio.sleep(LEADER_LOOK_SECONDS)


async def _listens(group: Group) -> bool:
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(LEADER_ANSWER_SECONDS):
            _, writer = await asyncio.open_connection(group.leader_address, group.leader_port)
            writer.close()
            return True
    return False
