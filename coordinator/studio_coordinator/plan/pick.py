"""Which GPUs of a host a replica gets, and how good that choice is: alike hosts have the same answer."""

from collections.abc import Sequence
from typing import NamedTuple

from studio_coordinator.plan.gpus import SLACK, Device, fitting
from studio_coordinator.plan.topology import narrow
from studio_coordinator.plan.wish import GpuNeed


class Pick(NamedTuple):
    """Chosen positions, and what is lost by the choice; less is better throughout."""

    positions: tuple[int, ...]
    # 0: one NVLink domain; 1: one NUMA node; 2: neither. 0 for a single GPU.
    distance: int
    # Bytes that a chosen GPU has beyond the need; the negative of what it has where the need is unknown.
    waste: int
    # GPUs that no one else was on.
    opened: int
    # GPUs of the host that are wholly free afterwards: best fit leaves few here, so that whole hosts stay free elsewhere.
    free_after: int
    # Room that is left on the chosen GPUs.
    left: float


NO_GPUS = Pick((), 0, 0, 0, 0, 0.0)


def pick(
    devices: Sequence[Device], taken: Sequence[float], need: GpuNeed, allowed: Sequence[int] | None
) -> Pick | None:
    """The best GPUs for ``need``; None when too few have room. ``allowed``: positions that a pin leaves; None for all."""
    if need.count == 0:
        return NO_GPUS
    room = fitting(devices, taken, need)
    if allowed is not None:
        room = [position for position in room if position in allowed]
    if len(room) < need.count:
        return None
    chosen = _choose(devices, taken, need, room)
    domains = {devices[position].nvlink for position in chosen}
    nodes = {devices[position].numa for position in chosen}
    still_free = [
        position
        for position, device in enumerate(devices)
        if taken[position] <= SLACK and position not in chosen and not (device.divided or device.quarantine)
    ]
    return Pick(
        positions=tuple(sorted(chosen)),
        distance=0 if len(domains) == 1 else 1 if len(nodes) == 1 else 2,
        waste=sum(_waste(devices[position], need) for position in chosen),
        opened=sum(taken[position] <= SLACK for position in chosen),
        free_after=len(still_free),
        left=round(sum(1 - taken[at] - need.share_of(devices[at].memory_bytes) for at in chosen), 6),
    )


def _choose(devices: Sequence[Device], taken: Sequence[float], need: GpuNeed, room: Sequence[int]) -> Sequence[int]:
    """Narrow what has room: the GPU size that wastes least, alike devices, one NVLink domain, one NUMA node; then the fullest."""
    least = sorted({_waste(devices[position], need) for position in room})
    for waste in least:
        enough = [position for position in room if _waste(devices[position], need) <= waste]
        if len(enough) >= need.count:
            room = enough
            break
    room = narrow(room, need.count, lambda at: (devices[at].model, devices[at].memory_bytes))
    if need.exclusive or need.count > 1:
        room = narrow(room, need.count, lambda at: devices[at].nvlink)
        room = narrow(room, need.count, lambda at: devices[at].numa)
    # On a shared GPU the fullest that still fits is taken, so that whole GPUs stay whole.
    return sorted(room, key=lambda at: (-taken[at], at))[: need.count]


def _waste(device: Device, need: GpuNeed) -> int:
    return device.memory_bytes - need.memory_bytes if need.memory_bytes else -device.memory_bytes
