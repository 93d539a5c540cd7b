"""Placement of one replica: feasible → rank → place. The same input gives the same answer, and nothing is changed.

::

    room on one host now ─▶ Placed
    room once replicas that retire are gone ─▶ Awaiting, without victims
    room once less important replicas are gone ─▶ Awaiting, with victims
    else ─▶ Unplaced, with the reason of every host

A replica over several hosts (`across`) has the same answers, with `more_hosts`: the parts beside rank 0. It has all or none.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from studio.v1.host_pb2 import Host

from studio_coordinator.plan.across import Offer, parts_of, room_by_force, room_now, room_soon
from studio_coordinator.plan.fleet import Fit, Fleet
from studio_coordinator.plan.names import counted, listed
from studio_coordinator.plan.occupancy import Held
from studio_coordinator.plan.preempt import MINIMUM_RESIDENCY_SECONDS, Preemption, propose
from studio_coordinator.plan.why_not import WhyNot, wants, why_not
from studio_coordinator.plan.wish import Wish
from studio_coordinator.plan.would_fit import would_fit


@dataclass(frozen=True)
class Placed:
    """A host and GPUs were found."""

    host: Host
    gpu_uuids: tuple[str, ...]
    reason: str
    # The other hosts of a replica over several, in the order of ranks, each with as many GPUs.
    more_hosts: tuple[tuple[Host, tuple[str, ...]], ...] = ()

    @property
    def where(self) -> tuple[tuple[Host, tuple[str, ...]], ...]:
        """Every host and its GPUs, in the order of ranks."""
        return (self.host, self.gpu_uuids), *self.more_hosts


@dataclass(frozen=True)
class Awaiting:
    """There is room on the host once ``leaving`` are gone. It is kept for this replica meanwhile."""

    host: Host
    gpu_uuids: tuple[str, ...]
    leaving: tuple[str, ...]
    # Those that have to be told to leave.
    preemption: Preemption | None = None
    more_hosts: tuple[tuple[Host, tuple[str, ...]], ...] = ()
    # Names of the hosts that have to be left, where that is not `host` alone.
    to_leave: tuple[str, ...] = ()

    @property
    def where(self) -> tuple[tuple[Host, tuple[str, ...]], ...]:
        """Every host and its GPUs, in the order of ranks."""
        return (self.host, self.gpu_uuids), *self.more_hosts

    @property
    def victims(self) -> tuple[Held, ...]:
        """Replicas to retire for it."""
        return self.preemption.victims if self.preemption is not None else ()

    @property
    def reason(self) -> str:
        """What it waits for."""
        hosts = listed(self.to_leave or [self.host.name])
        return f"{listed(self.leaving)} {'has' if len(self.leaving) == 1 else 'have'} to leave {hosts} first"


@dataclass(frozen=True)
class Unplaced:
    """No host fits."""

    why: WhyNot

    @property
    def reason(self) -> str:
        """One sentence that names every host and its reason, alike ones together."""
        return str(self.why)


def place(
    fleet: Fleet, wish: Wish, residency_seconds: float = MINIMUM_RESIDENCY_SECONDS
) -> Placed | Awaiting | Unplaced:
    """Find room for one replica."""
    best = fleet.best(wish) if wish.span <= 1 else None
    if best is not None:
        return placed_at(fleet, wish, best)
    if parts := parts_of(fleet, wish):
        return _place_across(fleet, wish, parts, residency_seconds)
    free_soon = _first(fleet.fit(view.without(set(view.leaving)), wish) for view in fleet.with_leaving)
    if free_soon is not None:
        host = free_soon.view.host
        leaving = next(view.leaving for view in fleet.with_leaving if view.host.id == host.id)
        return Awaiting(host, free_soon.gpu_uuids, tuple(sorted(leaving)))
    preemption = propose(fleet, wish, residency_seconds)
    if preemption is not None:
        fit = preemption.fit
        victims = tuple(sorted(held.id for held in preemption.victims))
        return Awaiting(fit.view.host, fit.gpu_uuids, victims, preemption)
    return Unplaced(WhyNot(wants(wish), tuple(why_not(fleet, wish)), would_fit(fleet, wish)))


def _place_across(
    fleet: Fleet, wish: Wish, parts: Sequence[Wish], residency_seconds: float
) -> Placed | Awaiting | Unplaced:
    """Find room for one replica on several hosts; ``parts``: what each is asked for, in the order of preference."""
    for part in parts:
        if fits := room_now(fleet, part):
            host, *more = [(fit.view.host, fit.gpu_uuids) for fit in fits]
            return Placed(*host, _praise_across(fits, part), tuple(more))
    for part in parts:
        if offers := room_soon(fleet, part):
            return _awaiting(offers, None)
    for part in parts:
        if (forced := room_by_force(fleet, part, residency_seconds)) is not None:
            return _awaiting(*forced)
    part = parts[0]
    return Unplaced(WhyNot(wants(part), tuple(why_not(fleet, part)), would_fit(fleet, wish)))


def _awaiting(offers: Sequence[Offer], preemption: Preemption | None) -> Awaiting:
    host, *more = [(offer.fit.view.host, offer.fit.gpu_uuids) for offer in offers]
    leaving = {name for offer in offers for name in (*offer.leaving, *(held.id for held in offer.victims))}
    to_leave = sorted(offer.fit.view.host.name for offer in offers if offer.leaving or offer.victims)
    return Awaiting(*host, tuple(sorted(leaving)), preemption, tuple(more), tuple(to_leave))


def _praise_across(fits: Sequence[Fit], part: Wish) -> str:
    each = f" with {counted(part.gpus.count, 'GPU')} each" if part.gpus.count else ""
    rest = listed([fit.view.host.name for fit in fits[1:]], shown=4)
    return f"{counted(part.span, 'host')}{each}, rank 0 here, the others on {rest}"


def placed_at(fleet: Fleet, wish: Wish, fit: Fit) -> Placed:
    """The answer for a host that has room, with why it was taken."""
    return Placed(fit.view.host, fit.gpu_uuids, _praise(fit, wish, fleet))


def _first(fits: Iterable[Fit | None]) -> Fit | None:
    return min((fit for fit in fits if fit is not None), key=lambda fit: fit.order, default=None)


def _praise(best: Fit, wish: Wish, fleet: Fleet) -> str:
    """Why this host, in a few words."""
    count, total = wish.gpus.count, len(best.view.devices)
    if count == 0:
        return "it needs no GPU"
    reasons = [
        "its GPU has room" if total == 1 else f"{count} of its {total} GPUs {'has' if count == 1 else 'have'} room"
    ]
    if count > 1:
        reasons.append(
            ("in one NVLink domain", "on one NUMA node", "not all linked to each other")[best.chosen.distance]
        )
    if best.view.ordinal in fleet.weights.get(wish.weights, ()):
        reasons.append("its weights are there")
    return ", ".join(reasons)
