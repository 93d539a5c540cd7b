"""Waiting until an engine that is gone has given its GPU memory back."""

import asyncio
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

import structlog

from studio_agent.plan.gpu_memory import Remains, remains_of, unowned_bytes
from studio_agent.plan.record import Engine, ReplicaRecord
from studio_agent.supervise.equipment import Equipment

POLL_SECONDS = 0.1

log = structlog.get_logger()


def memory_before(equipment: Equipment, uuids: Iterable[str]) -> dict[str, int]:
    """Bytes in use on each of the GPUs that no process holds, right before an engine starts; unknown ones are left out."""
    figures = equipment.gpus.figures()
    known = {uuid: unowned_bytes(figures[uuid], _is_alive) for uuid in uuids if uuid in figures}
    return {uuid: unowned for uuid, unowned in known.items() if unowned is not None}


async def until_free(
    equipment: Equipment,
    record: ReplicaRecord,
    engine: Engine,
    pids: Collection[int],
    stuck: Callable[[list[Remains]], None],
) -> None:
    """Return when nothing of ``engine``, whose processes were ``pids``, is left on its GPUs, or when that cannot be known.

    What is left after the deadline is handed to ``stuck`` once, and waited for: the driver may yet let it go.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + equipment.settings.stop.memory_seconds
    pause, told = POLL_SECONDS, False
    uuids = list(record.assigned.gpu_uuids)
    ended_at = equipment.now()
    while True:
        figures = {uuid: seen for uuid, seen in equipment.gpus.figures().items() if uuid in uuids}
        if not figures:
            return
        old = any(seen.at.ToNanoseconds() / 1e9 < ended_at for seen in figures.values())
        remains = None if old else remains_of(record.replica_id, pids, engine.gpu_unowned_bytes, uuids, figures)
        if remains == []:
            return
        if not told and loop.time() > deadline:
            if remains is None:
                log.warning("gpu_memory_unknown", replica=record.replica_id, why="the driver gives no new figures")
                return
            stuck(remains)
            told, pause = True, equipment.settings.stop.kill_again_seconds
        await asyncio.sleep(pause)


def _is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()
