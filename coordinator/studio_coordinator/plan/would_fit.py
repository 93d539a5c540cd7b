"""What to change so that a replica fits: each demand loosened alone, and kept if that helps."""

from collections.abc import Iterator
from dataclasses import replace

from studio_coordinator.plan.feasible import host_refusal
from studio_coordinator.plan.fleet import Fleet
from studio_coordinator.plan.gpus import gib, occupied, unfit
from studio_coordinator.plan.names import counted
from studio_coordinator.plan.wish import Wish

SHOWN = 2


def would_fit(fleet: Fleet, wish: Wish) -> tuple[str, ...]:
    """Ways to have it fit now, the gentlest first; empty when no single change helps."""
    ways = []
    for change, loosened in _loosened(wish):
        found = fleet.best(loosened)
        if found is not None:
            ways.append(f"{change} on {found.view.host.name}")
        if len(ways) == SHOWN:
            return tuple(ways)
    smaller = _with_less_memory(fleet, wish)
    return (*ways, smaller) if smaller else tuple(ways)


def _loosened(wish: Wish) -> Iterator[tuple[str, Wish]]:
    need = wish.gpus
    if wish.labels:
        yield f"without the label {', '.join(f'{key}={value}' for key, value in wish.labels)}", replace(wish, labels=())
    if wish.hosts:
        yield "without placement.hosts", replace(wish, hosts=())
    if need.pinned is not None:
        yield "without placement.gpus", replace(wish, gpus=replace(need, pinned=None))
    if need.models:
        yield f"on another GPU than {' or '.join(need.models)}", replace(wish, gpus=replace(need, models=()))
    if wish.apart:
        yield "without placement.anti_affinity", replace(wish, apart=frozenset())
    fewer = need.count // 2
    while fewer and need.exclusive:
        yield f"with {counted(fewer, 'GPU')}", replace(wish, gpus=replace(need, count=fewer))
        fewer //= 2


def _with_less_memory(fleet: Fleet, wish: Wish) -> str:
    """The most memory that the wished number of GPUs of one host have free."""
    if not wish.gpus.memory_bytes:
        return ""
    # One byte: whatever strangers hold is counted, and nothing is too small.
    need = replace(wish.gpus, memory_bytes=1)
    rivals = fleet.rivals_of(wish)
    most, where = 0.0, ""
    for view in fleet.views:
        if host_refusal(view, wish, rivals):
            continue
        free = sorted(
            (
                device.memory_bytes * (1 - (0 if need.exclusive else taken)) - device.foreign_bytes
                for device, taken in zip(view.devices, view.taken, strict=True)
                if not unfit(device, need) and not occupied(device, taken, need)
            ),
            reverse=True,
        )
        if len(free) >= need.count and free[need.count - 1] > most:
            most, where = free[need.count - 1], view.host.name
    return f"with {gib(most)} a GPU on {where}" if where else ""
