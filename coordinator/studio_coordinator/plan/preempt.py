"""Whom to send away when a more important replica finds no room: the cheapest victims, or none.

Promises:

1. only replicas of a lower priority go: the last route of an equal or higher priority never does
2. none that has begun to serve less than `MINIMUM_RESIDENCY_SECONDS` ago
3. what is served never gets less: the victims' priority times their GPUs is at most that of the replica that comes

Among the hosts where that makes room, the victims with the lowest sum of priority times cost are chosen, then the fewest, then
the host that ranks best. Cost is what must be loaded again: GPUs, twice for a replica that serves.

Nothing is stopped here. The plan retires the victims, and places the replica when they are gone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from studio_coordinator.plan.fleet import Fit, Fleet
from studio_coordinator.plan.names import counted
from studio_coordinator.plan.occupancy import Held, HostView
from studio_coordinator.plan.victims import Price, Terms, cheapest
from studio_coordinator.plan.wish import Wish

MINIMUM_RESIDENCY_SECONDS = 600.0

PRE_EMPTED = "pre-empted by"


@dataclass(frozen=True)
class Preemption:
    """Replicas to retire, and where the room is once they are gone."""

    fit: Fit
    victims: tuple[Held, ...]

    def reason(self, wish: Wish, who: str, victim: Held) -> str:
        """Why ``victim`` goes, for its event."""
        return f"{PRE_EMPTED} {who} (priority {wish.priority} over {victim.priority})"


def propose(fleet: Fleet, wish: Wish, residency_seconds: float = MINIMUM_RESIDENCY_SECONDS) -> Preemption | None:
    """The cheapest victims in the fleet; None when no one may go or it would not help."""
    terms = terms_for(fleet, wish, residency_seconds)
    way = cheapest(fleet, wish, terms) if terms is not None else None
    return None if way is None else Preemption(way.fit, way.victims)


def terms_for(fleet: Fleet, wish: Wish, residency_seconds: float) -> Terms | None:
    """Who may go for ``wish``, and at what price; None when nobody is less important."""
    if wish.gpus.count == 0 or not fleet.priorities or min(fleet.priorities) >= wish.priority:
        return None
    floor = min(fleet.priorities)

    def price(victims: Sequence[Held]) -> Price:
        # Priorities count from the lowest in the fleet, so that even that one costs something.
        costs = ((held.priority - floor + 1) * held.demand * (2 if held.serving else 1) for held in victims)
        return sum(costs), len(victims)

    return Terms(
        may_go=lambda view, held: not spared(view, held, wish, residency_seconds),
        price=price,
        acceptable=lambda victims: accepts(wish, victims),
    )


def accepts(wish: Wish, victims: Sequence[Held]) -> bool:
    """Whether what is served does not get less."""
    return _served(victims) <= wish.priority * wish.demand


def spared(view: HostView, held: Held, wish: Wish, residency_seconds: float = MINIMUM_RESIDENCY_SECONDS) -> str:
    """Why a replica is not sent away for ``wish``; empty when it may go."""
    if held.id in view.leaving:
        return "leaves already"
    if held.priority >= wish.priority:
        return f"priority {held.priority} ≥ {wish.priority}: not pre-empted"
    if held.serving and held.served_seconds < residency_seconds:
        return f"priority {held.priority} < {wish.priority}, but it has served for less than {residency_seconds / 60:.0f} min"
    if not held.gpu_uuids:
        return "holds no GPU"
    if not accepts(wish, (held,)):
        gpus = counted(held.span * len(held.gpu_uuids), "GPU")
        return (
            f"priority {held.priority} < {wish.priority}, but its {gpus} at that priority "
            f"outweigh {wish.demand:g} at {wish.priority}"
        )
    return ""


def _served(victims: Sequence[Held]) -> float:
    """Priority that is served: each GPU counts with the priority of who has it."""
    return sum(held.priority * held.demand for held in victims)
