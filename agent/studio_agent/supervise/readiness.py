"""From a started engine to one that answered a completion.

The engine's log says how far it is; its HTTP side says whether it is up; a real completion of one token says that it serves. Two
limits bound the wait: a time without any progress, and a total that grows with the model (``plan.start_limits``). The port must
be the engine's own: a stranger who took it meanwhile may answer as well.
"""

import asyncio
import itertools
from collections.abc import Callable
from pathlib import Path

from studio.v1.recipe_pb2 import Recipe
from studio.v1.replica_pb2 import Failure, StartProgress

from studio_agent.engines.base import Driver
from studio_agent.engines.inquiry.model_directory import facts_at
from studio_agent.engines.model_facts import Task, task_of
from studio_agent.engines.typed_args import local_path
from studio_agent.errors import EngineFailedError
from studio_agent.launch import listeners
from studio_agent.logfiles import LineFollower
from studio_agent.models.size import bytes_on_disk
from studio_agent.plan.record import Engine, ReplicaRecord
from studio_agent.plan.restarts import PORT_IN_USE
from studio_agent.plan.start_limits import Overdue, StartLimits, overdue
from studio_agent.supervise.equipment import Equipment
from studio_agent.supervise.event_log import timestamp
from studio_agent.supervise.observation import base_url

# Looking for new lines is cheap, and a line may be the one that says that the engine serves.
LOG_POLL_SECONDS = 0.01
# Asking over HTTP is not: it is done after new lines, and every so often.
PROBE_SECONDS = 0.05
# The port is seen taken by a stranger this often before it counts: an engine may be between bind and fork.
FOREIGN_SIGHTINGS = 3


class Clock:
    """Holds one start to its two limits, by the loop's clock. ``model_bytes``: what the engine has to read."""

    def __init__(self, limits: StartLimits, model_bytes: int) -> None:
        self._limits = limits
        self._model_bytes = model_bytes
        self._loop = asyncio.get_running_loop()
        self._began = self._progressed = self._loop.time()

    def progressed(self) -> None:
        """The engine came a step further."""
        self._progressed = self._loop.time()

    def check(self, doing: str) -> None:
        """Raise EngineFailedError when a limit is over; ``doing`` is the last that was seen."""
        now = self._loop.time()
        over = overdue(self._limits, self._model_bytes, now - self._began, now - self._progressed)
        if over is not None:
            raise _timed_out(over, doing)


async def until_ready(
    equipment: Equipment, record: ReplicaRecord, driver: Driver, report: Callable[[StartProgress], None]
) -> None:
    """Return when the engine answered a completion. Raises EngineFailedError; that the engine ends is for others to see."""
    engine = record.engine
    if engine is None:
        raise RuntimeError(f"{record.replica_id} has no engine to wait for")
    url = base_url(equipment.settings.engine_address, engine.port)
    name = next(iter(record.assigned.model_names), record.replica_id)
    tasks = await asyncio.to_thread(tasks_of, record.assigned.recipe)
    turns = itertools.cycle(tasks)
    follower = LineFollower(Path(engine.log_path), engine.log_offset)
    model_bytes = await bytes_on_disk(equipment.models, record.assigned.recipe.model)
    clock, doing, foreign = Clock(equipment.settings.start, model_bytes), "nothing in its log", 0
    loop, probe_at = asyncio.get_running_loop(), 0.0
    while True:
        lines = follower.new_lines()
        for line in lines:
            if (progress := driver.progress(line)) is not None:
                clock.progressed()
                doing = progress.detail or StartProgress.Phase.Name(progress.phase)
                report(progress)
        clock.check(doing)
        if not lines and loop.time() < probe_at:
            await asyncio.sleep(LOG_POLL_SECONDS)
            continue
        if await equipment.prober.is_up(url + driver.ready_path):
            if await _is_foreign(equipment, engine):
                foreign += 1
                if foreign >= FOREIGN_SIGHTINGS:
                    raise _port_taken(engine.port)
            else:
                task = next(turns)
                canary = driver.canary(name, task)
                problem = await equipment.prober.completion_problem(url + canary.path, canary.body or {})
                if not problem:
                    return
                doing = problem if task is tasks[0] else doing
        probe_at = loop.time() + PROBE_SECONDS


async def _is_foreign(equipment: Equipment, engine: Engine) -> bool:
    """Whether a stranger listens on the engine's port."""
    # Mostly the leader listens itself, and to find the others is a walk through /proc.
    if not await asyncio.to_thread(listeners.is_foreign, engine.port, [engine.pid]):
        return False
    members = await equipment.launcher.members(engine)
    return await asyncio.to_thread(listeners.is_foreign, engine.port, [identity.pid for identity in members])


def with_phase_since(progress: StartProgress, before: StartProgress | None, now: float) -> StartProgress:
    """The progress, with the time at which its phase began."""
    stamped = StartProgress()
    stamped.CopyFrom(progress)
    same = before is not None and before.phase == progress.phase
    stamped.phase_since.CopyFrom(before.phase_since if before is not None and same else timestamp(now))
    return stamped


def tasks_of(recipe: Recipe) -> tuple[Task, ...]:
    """What the engine may have to prove: the model's task, or each in turn where its files do not tell. Blocks on the disk."""
    source = recipe.model.source
    facts = facts_at(local_path(source))
    task = task_of(recipe, facts)
    told = not source or facts is not None or task is not Task.GENERATE
    return (task,) if told else tuple(Task)


def _timed_out(over: Overdue, doing: str) -> EngineFailedError:
    return EngineFailedError(
        Failure(
            reason=over.reason,
            message=f"the engine was stopped because {over.clause}; last seen: {doing}",
            hint="Read its log: `studio logs`. A big model on a slow disk may need longer limits on this host.",
            retryable=True,
        )
    )


def _port_taken(port: int) -> EngineFailedError:
    return EngineFailedError(
        Failure(
            reason=PORT_IN_USE,
            message=f"port {port} was taken by another process before the engine could have it",
            hint="Nothing to do: the next try takes another port.",
            retryable=True,
        )
    )
