"""Placement of one replica: feasible → rank → place. The same input gives the same answer, and nothing is changed.

::

    room on one host now ─▶ Placed
    too large for any one host, room on several ─▶ Placed with `more_hosts`
    room once replicas that retire are gone ─▶ Awaiting, without victims
    room once less important replicas are gone ─▶ Awaiting, with victims
    else ─▶ Unplaced, with the reason of every host
"""

from collections.abc import Iterable
from dataclasses import dataclass

from studio.v1.host_pb2 import Host

from studio_coordinator.plan.across import across
from studio_coordinator.plan.fleet import Fit, Fleet
from studio_coordinator.plan.names import listed
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
    # The other hosts of a replica over several, each with as many GPUs.
    more_hosts: tuple[tuple[Host, tuple[str, ...]], ...] = ()


@dataclass(frozen=True)
class Awaiting:
    """There is room on the host once ``leaving`` are gone. It is kept for this replica meanwhile."""

    host: Host
    gpu_uuids: tuple[str, ...]
    leaving: tuple[str, ...]
    # Those that have to be told to leave.
    preemption: Preemption | None = None

    @property
    def victims(self) -> tuple[Held, ...]:
        """Replicas to retire for it."""
        return self.preemption.victims if self.preemption is not None else ()

    @property
    def reason(self) -> str:
        """What it waits for."""
        return f"{listed(self.leaving)} {'has' if len(self.leaving) == 1 else 'have'} to leave {self.host.name} first"


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
    best = fleet.best(wish)
    if best is not None:
        return placed_at(fleet, wish, best)
    parts = across(fleet, wish)
    if parts:
        (first, *others) = parts
        reason = f"{wish.gpus.count} GPUs are on no single host: {len(parts)} hosts with {len(first.gpu_uuids)} each"
        return Placed(first.view.host, first.gpu_uuids, reason, tuple((p.view.host, p.gpu_uuids) for p in others))
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
    return Unplaced(WhyNot(wants(wish.gpus), tuple(why_not(fleet, wish)), would_fit(fleet, wish)))


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
