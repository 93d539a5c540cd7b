"""Why a replica runs nowhere: the reason of every host, alike ones together, and what would make it fit."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from studio_coordinator.plan.feasible import host_refusal
from studio_coordinator.plan.fleet import Fleet
from studio_coordinator.plan.gpus import HELD, gib, occupied, unfit
from studio_coordinator.plan.names import counted, listed, ranges
from studio_coordinator.plan.occupancy import HostView
from studio_coordinator.plan.preempt import spared
from studio_coordinator.plan.wish import GpuNeed, Wish


@dataclass(frozen=True)
class Refusal:
    """Why one host does not take it. Hosts with an equal cause are told together, whoever the holders are."""

    cause: str
    # Before and after the holders, if replicas of ours are in the way.
    hardware: str = ""
    note: str = ""
    holders: tuple[str, ...] = ()
    held: int = 0


@dataclass(frozen=True)
class Group:
    """Hosts with the same reason."""

    hosts: tuple[str, ...]
    reason: str

    def __str__(self) -> str:
        return f"{counted(len(self.hosts), 'host')} {ranges(self.hosts)}: {self.reason}"


@dataclass(frozen=True)
class WhyNot:
    """The whole answer; ``str`` is one sentence, ``lines`` is for people with a screen."""

    wants: str
    groups: tuple[Group, ...]
    would_fit: tuple[str, ...] = ()

    def __str__(self) -> str:
        if not self.groups:
            return "no host has joined yet: start an agent"
        told = f"no host fits: wants {self.wants}; " + "; ".join(map(str, self.groups))
        return told + (f"; would fit: {' or '.join(self.would_fit)}" if self.would_fit else "")

    def lines(self) -> list[str]:
        """Number of hosts, which, and why, in columns."""
        if not self.groups:
            return [str(self)]
        counts = [counted(len(group.hosts), "host") for group in self.groups]
        names = [ranges(group.hosts) for group in self.groups]
        rows = [
            f"  {count:<{max(map(len, counts))}}  {name:<{max(map(len, names))}}  {group.reason}"
            for count, name, group in zip(counts, names, self.groups, strict=True)
        ]
        return [f"wants {self.wants}", *rows, *(f"  would fit: {way}" for way in self.would_fit)]


def why_not(fleet: Fleet, wish: Wish, except_hosts: Collection[str] = ()) -> list[Group]:
    """The reason for every host, the largest group first; a host that has room has an empty one.

    ``except_hosts``: ids of those that are not asked about. A host that has room for its part of a replica over several hosts
    has a reason all the same while there are too few like it.
    """
    rivals = fleet.rivals_of(wish)
    alike: dict[tuple[str, str, str], list[tuple[str, Refusal]]] = defaultdict(list)
    for view in fleet.views:
        if view.host.id in except_hosts:
            continue
        refused = host_refusal(view, wish, rivals)
        refusal = Refusal(refused) if refused else _gpu_refusal(view, wish)
        if wish.span > 1 and not except_hosts and refusal == Refusal(""):
            refusal = Refusal(f"room for one part, but {wish.span} alike hosts with room are wanted")
        alike[refusal.cause, refusal.hardware, refusal.note].append((view.host.name, refusal))
    groups = [
        Group(tuple(name for name, _ in members), _told([refusal for _, refusal in members]))
        for members in alike.values()
    ]
    return sorted(groups, key=lambda group: (-len(group.hosts), group.hosts))


def wants(wish: Wish) -> str:
    """The need in words."""
    if wish.span > 1:
        return f"{wish.span} alike hosts, each with {_wants_of_one(wish.gpus)}"
    return _wants_of_one(wish.gpus) + (" on one host" if wish.gpus.count > 1 else "")


def _wants_of_one(need: GpuNeed) -> str:
    if need.count == 0:
        return "no GPU"
    model = f" {' or '.join(need.models)}" if need.models else ""
    memory = f" of ≥ {gib(need.memory_bytes)}" if need.memory_bytes else ""
    part = "" if need.share is None else f"{need.share:g} of " if need.share else "a part of "
    return f"{part}{counted(need.count, f'{model} GPU'.strip())}{memory}"


def _gpu_refusal(view: HostView, wish: Wish) -> Refusal:
    need = wish.gpus
    if len(view.devices) < need.count:
        has = counted(len(view.devices), "GPU") if view.devices else "no GPU"
        return Refusal(f"{has}, {need.count} wanted")
    allowed = view.allowed(need)
    if allowed is not None and len(allowed) < need.count:
        return Refusal(f"has {len(allowed)} of the GPUs in placement.gpus, {need.count} wanted")
    causes: dict[str, list[int]] = defaultdict(list)
    for position, (device, taken) in enumerate(zip(view.devices, view.taken, strict=True)):
        if allowed is None or position in allowed:
            causes[unfit(device, need) or occupied(device, taken, need)].append(position)
    causes.pop("", None)
    held = causes.pop(HELD, [])
    others = "; ".join(f"{_which(view, positions)} {cause}" for cause, positions in causes.items())
    if not held:
        return Refusal(others)
    holders = view.holders(held)
    return Refusal(
        others, _hardware(view), _why_they_stay(view, wish, held), tuple(sorted(h.id for h in holders)), len(held)
    )


def _told(members: Sequence[Refusal]) -> str:
    """One reason for several hosts."""
    first = members[0]
    if not first.hardware:
        return first.cause
    holders = sorted({holder for refusal in members for holder in refusal.holders})
    low, high = min(refusal.held for refusal in members), max(refusal.held for refusal in members)
    held = str(low) if low == high else f"{low} to {high}"
    verb = "holds" if len(holders) == 1 else "hold"
    own = f"{first.hardware}, but {listed(holders)} {verb} {held} ({first.note})"
    return f"{own}; {first.cause}" if first.cause else own


def _why_they_stay(view: HostView, wish: Wish, held: Sequence[int]) -> str:
    """Why the least important holder is not sent away."""
    staying = [holder for holder in view.holders(held) if holder.id not in view.leaving]
    if not staying:
        return "leaving, for who came first"
    least = min(staying, key=lambda holder: (holder.priority, holder.id))
    return spared(view, least, wish) or "all that are in the way together outweigh it"


def _which(view: HostView, positions: Sequence[int]) -> str:
    if len(positions) == len(view.devices):
        return "each GPU" if len(positions) > 1 else "its GPU"
    # MIG instances of one GPU share its index.
    return "GPU " + ",".join(dict.fromkeys(str(view.gpus[position].index) for position in positions))


def _hardware(view: HostView) -> str:
    models: dict[str, int] = defaultdict(int)
    for device in view.devices:
        models[device.model or "GPU"] += 1
    return " and ".join(f"{count} \N{MULTIPLICATION SIGN} {model}" for model, count in models.items())
