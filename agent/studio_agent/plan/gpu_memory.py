"""Whether an engine that is gone has given its GPU memory back: figures of the GPU from before its start and of now.

After the last process of an engine has ended, the driver may take seconds to free its memory, and sometimes never does. What
counts is memory that *nobody* holds: used, less what the listed processes of others use. Others are never blamed: neither a
stranger who came meanwhile, nor another replica that shares the GPU.

============================================  ===========================================================
known of a GPU                                it is free when
============================================  ===========================================================
use before the start, use now, and the use    what nobody holds is back to what it was, but for
of every other process on it                  ``NEAR_BYTES``
anything less                                 no process of the engine is listed on it
nothing, or figures that are stale            unknown: nothing is said
============================================  ===========================================================
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from studio.v1.host_pb2 import GpuFigures, GpuProcess

# What a driver may keep for itself, and what processes use beyond what is listed for them.
NEAR_BYTES = 512 * 1024 * 1024


@dataclass(frozen=True)
class Remains:
    """What is left on one GPU of an engine that is gone."""

    uuid: str
    # Bytes that nobody holds; None: not known.
    held_bytes: int | None
    # Processes of the engine that the driver still lists.
    pids: tuple[int, ...] = ()


def unowned_bytes(figures: GpuFigures, is_alive: Callable[[int], bool]) -> int | None:
    """Memory in use that no live process is listed with, before an engine starts; None: not known.

    A process that is gone may be listed for a while, so it takes nothing away from what counts as in use.
    """
    if figures.stale or not figures.HasField("memory_used_bytes"):
        return None
    listed = sum(process.memory_used_bytes for process in figures.processes if is_alive(process.pid))
    return max(0, figures.memory_used_bytes - listed)


def remains_of(
    replica_id: str,
    pids: Collection[int],
    before: Mapping[str, int],
    uuids: Iterable[str],
    now: Mapping[str, GpuFigures],
) -> list[Remains] | None:
    """What is left of the replica's engine, which had ``pids``; None while a GPU's figures are stale.

    ``before``: ``unowned_bytes`` by UUID when it started. GPUs without figures are left out.
    """
    found = []
    for uuid in uuids:
        if (figures := now.get(uuid)) is None:
            continue
        if figures.stale:
            return None
        remains = _on_one(replica_id, pids, before.get(uuid), uuid, figures)
        if remains is not None:
            found.append(remains)
    return found


def use_by_replica(now: Mapping[str, GpuFigures]) -> dict[str, int]:
    """What each replica's engine uses of a GPU in bytes: of the one where that is most. Unknown is left out."""
    used: dict[str, int] = {}
    unknown: set[str] = set()
    for figures in now.values():
        here: dict[str, int] = {}
        for process in figures.processes:
            if figures.stale or not process.HasField("memory_used_bytes"):
                unknown.add(process.replica_id)
            here[process.replica_id] = here.get(process.replica_id, 0) + process.memory_used_bytes
        used |= {replica_id: max(use, used.get(replica_id, 0)) for replica_id, use in here.items()}
    return {replica_id: use for replica_id, use in used.items() if replica_id and replica_id not in unknown}


def sentence(remains: Iterable[Remains]) -> str:
    """What is left, for people."""
    return "; ".join(_clause(each) for each in remains)


def _on_one(
    replica_id: str, pids: Collection[int], before: int | None, uuid: str, figures: GpuFigures
) -> Remains | None:
    own = [process for process in figures.processes if process.replica_id == replica_id or process.pid in pids]
    others = [process for process in figures.processes if process not in own]
    listed = tuple(process.pid for process in own)
    if before is None or not figures.HasField("memory_used_bytes") or not _all_tell(others):
        return Remains(uuid, None, listed) if listed else None
    held = figures.memory_used_bytes - sum(process.memory_used_bytes for process in others) - before
    return Remains(uuid, held, listed) if held > NEAR_BYTES else None


def _all_tell(processes: Iterable[GpuProcess]) -> bool:
    return all(process.HasField("memory_used_bytes") for process in processes)


def _clause(remains: Remains) -> str:
    held = "memory" if remains.held_bytes is None else f"{remains.held_bytes / 2**30:.1f} GiB"
    listed = f" (the driver still lists process {', '.join(map(str, remains.pids))})" if remains.pids else ""
    return f"{held} on GPU {remains.uuid} is held by nobody{listed}"
