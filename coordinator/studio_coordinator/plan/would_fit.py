"""What to change so that a replica fits: each demand loosened alone, and kept if that helps."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from studio_coordinator.plan.across import has_room
from studio_coordinator.plan.feasible import host_refusal
from studio_coordinator.plan.fleet import Fleet
from studio_coordinator.plan.gpus import gib, occupied, unfit
from studio_coordinator.plan.names import counted
from studio_coordinator.plan.wish import Wish

SHOWN = 2

# What is changed, in words, and the wish so changed.
Change = tuple[str, Wish]


def would_fit(fleet: Fleet, wish: Wish) -> tuple[str, ...]:
    """Ways to have it fit now, the gentlest first; empty when no single change helps."""
    ways = [_first_that_fits(fleet, changes) for changes in (*_without_limits(wish), _with_fewer_gpus(wish))]
    return tuple(way for way in (*ways, _with_less_memory(fleet, wish)) if way)[:SHOWN]


def _first_that_fits(fleet: Fleet, changes: Sequence[Change]) -> str:
    for told, changed in changes:
        if hosts := has_room(fleet, changed):
            return f"{told} on {hosts}"
    return ""


def _without_limits(wish: Wish) -> Iterator[Sequence[Change]]:
    need = wish.gpus
    if wish.labels:
        labels = ", ".join(f"{key}={value}" for key, value in wish.labels)
        yield [(f"without the label {labels}", replace(wish, labels=()))]
    if wish.hosts:
        yield [("without placement.hosts", replace(wish, hosts=()))]
    if need.pinned is not None:
        yield [("without placement.gpus", replace(wish, gpus=replace(need, pinned=None)))]
    if need.models:
        yield [(f"with another model than {' or '.join(need.models)}", replace(wish, gpus=replace(need, models=())))]
    if wish.apart:
        yield [("without placement.anti_affinity", replace(wish, apart=frozenset()))]


def _with_fewer_gpus(wish: Wish) -> Sequence[Change]:
    """Half as many, a quarter, and so on: counts by which a model that divides by the wish divides as well."""
    need, changes = wish.gpus, []
    count = need.count
    while need.exclusive and count > 1 and count % 2 == 0:
        count //= 2
        changes.append((f"with {counted(count, 'GPU')}", replace(wish, gpus=replace(need, count=count))))
    return changes


def _with_less_memory(fleet: Fleet, wish: Wish) -> str:
    """The most memory that the wished number of GPUs of one host have free."""
    if not wish.gpus.memory_bytes or wish.span > 1:
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
