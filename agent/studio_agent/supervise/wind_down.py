"""Drain, SIGTERM, kill, and proof that nothing is left."""

import asyncio
from collections.abc import Callable

from studio_agent.engines import driver_for
from studio_agent.engines.base import Driver
from studio_agent.engines.errors import UnknownEngineError
from studio_agent.plan.record import Engine, ReplicaRecord
from studio_agent.supervise import ports
from studio_agent.supervise.equipment import Equipment
from studio_agent.supervise.joining import until_leader_is_gone
from studio_agent.supervise.observation import base_url
from studio_agent.supervise.race import first_of

DRAIN_POLL_SECONDS = 0.2
# The gauge must say so twice: a request may be between two processes of the engine.
IDLE_SIGHTINGS = 2
GONE_POLL_SECONDS = 0.05


async def drain(equipment: Equipment, record: ReplicaRecord, engine: Engine) -> str:
    """Wait until no request runs, the engine ended, or the deadline is over; returns which, as a clause."""
    deadline = equipment.settings.stop.drain_seconds
    if record.assigned.HasField("drain_deadline"):
        deadline = record.assigned.drain_deadline.ToNanoseconds() / 1e9
    if equipment.settings.hurried:
        return "it was not drained, because somebody is in a hurry"
    try:
        driver = driver_for(record.assigned.recipe.engine.name)
    except UnknownEngineError:
        return "its engine has no driver to drain it with"
    if driver.drain.finishes_requests and not driver.drain.tells_running and not record.follows:
        # Nobody can see when it is idle, but told to stop it ends when it is.
        await equipment.launcher.terminate(engine)
    try:
        async with asyncio.timeout(deadline):
            idle = (
                until_leader_is_gone(record.assigned.group)
                if record.follows
                else _until_idle(equipment, engine, driver)
            )
            first, _ = await first_of(equipment.launcher.exited(engine), idle)
    except TimeoutError:
        return f"the drain deadline of {deadline:.0f} s ended with requests running"
    return ("the engine ended while it was drained", "rank 0 has ended" if record.follows else "no request is running")[
        first
    ]


async def stop(equipment: Equipment, record: ReplicaRecord, engine: Engine) -> None:
    """SIGTERM, and return when the leader has ended or its grace is over."""
    if not engine.pid:
        return
    await equipment.launcher.terminate(engine)
    grace = equipment.settings.stop.grace_seconds
    if equipment.settings.hurried:
        grace = 0.0
    elif equipment.settings.stop_grace_seconds is not None:
        grace = equipment.settings.stop_grace_seconds
    elif record.assigned.HasField("stop_grace"):
        grace = record.assigned.stop_grace.ToNanoseconds() / 1e9
    try:
        async with asyncio.timeout(grace):
            await equipment.launcher.exited(engine)
    except TimeoutError:
        return


async def clear(equipment: Equipment, engine: Engine, unkillable: Callable[[list[int]], None]) -> bool:
    """Kill what is left of the tree and return when nothing is; whether anything had been left.

    What does not die within the limit is handed to ``unkillable`` once, and waited for: the kernel may yet let it go.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + equipment.settings.stop.kill_seconds
    pause, told, found = GONE_POLL_SECONDS, False, False
    while members := await equipment.launcher.members(engine):
        found = True
        await equipment.launcher.kill(engine)
        if not told and loop.time() > deadline:
            unkillable([identity.pid for identity in members])
            told, pause = True, equipment.settings.stop.kill_again_seconds
        await asyncio.sleep(pause)
    if engine.pid:
        # Reaps the leader where it is a child of this agent.
        await equipment.launcher.exited(engine)
    await equipment.launcher.release(engine)
    return found


async def port_is_free(equipment: Equipment, engine: Engine) -> bool:
    """Whether the port of an engine that is gone can be listened on again."""
    return await asyncio.to_thread(ports.is_free, equipment.settings.engine_address, engine.port)


async def _until_idle(equipment: Equipment, engine: Engine, driver: Driver) -> None:
    url, sightings = base_url(equipment.settings.engine_address, engine.port), 0
    while sightings < IDLE_SIGHTINGS:
        figures = await equipment.readings.read(equipment.prober, url, engine, driver)
        # An engine that does not say how many requests it runs is not known to be idle.
        idle = figures is not None and figures.HasField("running") and figures.running + figures.waiting == 0
        sightings = sightings + 1 if idle else 0
        if sightings < IDLE_SIGHTINGS:
            await asyncio.sleep(DRAIN_POLL_SECONDS)
