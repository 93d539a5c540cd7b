"""The parts of a replica: one on its own host, which is rank 0, and one on the host of each of its members."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from studio.v1.replica_pb2 import Replica


class Part(NamedTuple):
    """What of a replica is on one host."""

    rank: int
    host_id: str
    host_name: str
    gpu_uuids: tuple[str, ...]


def parts(replica: Replica) -> list[Part]:
    """All of them in the order of ranks; the one that it has, or none, for a replica on a single host, or without one."""
    if not replica.host_id:
        return []
    first = Part(0, replica.host_id, replica.host_name, tuple(replica.gpu_uuids))
    others = [Part(one.rank, one.host_id, one.host_name, tuple(one.gpu_uuids)) for one in replica.members]
    return [first, *others]


def is_group(replica: Replica) -> bool:
    """Whether it spans several hosts."""
    return bool(replica.members)


def parts_held(replica: Replica) -> Iterator[tuple[str, Sequence[str]]]:
    """Host id and GPUs of each part that may still hold them: of a group that goes away, some may be gone before others."""
    for part in parts(replica):
        if not (is_group(replica) and replica.retiring and state_of(replica, part.rank) == Replica.STATE_STOPPED):
            yield part.host_id, part.gpu_uuids


def state_of(replica: Replica, rank: int) -> Replica.State.ValueType:
    """State of one part."""
    return next((one.state for one in replica.members if one.rank == rank), replica.state)


def gpu_count(replica: Replica) -> int:
    """GPUs of all its parts."""
    return sum(len(part.gpu_uuids) for part in parts(replica))
