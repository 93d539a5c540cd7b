"""Moves that free whole hosts or heal spread, with their cost: what `studio rebalance --dry-run` shows.

Only proposed: each move is carried out as an ordinary drain, the new replica first. Moves are worked out one after the other on a
copy of the fleet, so all of them together fit. They are begun together, so nobody moves into room that another is still to leave:
who moves keeps its place there until the end (`_move`).

1. Spread: a host with several replicas of one deployment gives one to a host that has none of it.
2. Whole hosts: the host with the fewest GPUs taken is emptied onto hosts that are in use already, if every replica on it finds a
   place there. Where one of them does not, all stay.

No replica moves twice.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from studio_coordinator.plan.fleet import Fit, Fleet
from studio_coordinator.plan.gpus import SLACK
from studio_coordinator.plan.occupancy import Held, HostView
from studio_coordinator.plan.wish import Wish


@dataclass(frozen=True)
class Move:
    """One replica to another host."""

    replica_id: str
    from_host: str
    to_host: str
    gpu_uuids: tuple[str, ...]
    reason: str
    # GPUs that have to load again.
    cost: float


def propose_moves(fleet: Fleet, wishes: Mapping[str, Wish]) -> list[Move]:
    """Every worthwhile move, in the order in which they are to be done. ``fleet`` is changed: give it one of its own.

    ``wishes``: what each replica wants, by id. Replicas that are missing there, or that retire, stay.
    """
    spread = _heal_spread(fleet, wishes)
    moved = {move.replica_id for move in spread}
    return [*spread, *_free_hosts(fleet, {name: wish for name, wish in wishes.items() if name not in moved})]


def _heal_spread(fleet: Fleet, wishes: Mapping[str, Wish]) -> list[Move]:
    moves = []
    for view in fleet.views:
        crowded = sorted(
            (held for held in view.replicas.values() if _movable(view, held, wishes) and not wishes[held.id].pack),
            key=lambda held: held.id,
        )
        for held in crowded:
            if view.deployments[held.deployment] <= 1:
                continue
            fit = _best_elsewhere(fleet, view, wishes[held.id], alone=True)
            if fit is not None:
                moves.append(
                    _move(fleet, view, held, fit, f"{view.deployments[held.deployment]} of {held.deployment} there")
                )
    return moves


def _free_hosts(fleet: Fleet, wishes: Mapping[str, Wish]) -> list[Move]:
    moves: list[Move] = []
    # The emptiest first: it is the cheapest to free.
    for view in sorted(fleet.views, key=lambda view: (_used(view), view.ordinal)):
        if view.closed or not view.devices or not view.replicas or _used(view) >= len(view.devices):
            continue
        freed = _emptied(fleet, view, wishes)
        moves += freed
        wishes = {name: wish for name, wish in wishes.items() if all(move.replica_id != name for move in freed)}
    return moves


def _emptied(fleet: Fleet, view: HostView, wishes: Mapping[str, Wish]) -> list[Move]:
    """The moves that free the host, done in the fleet; none when one replica of it has to stay."""
    before = {name: held for name, held in view.replicas.items() if name not in view.leaving}
    if not all(_movable(view, held, wishes) for held in before.values()):
        return []
    moves: list[Move] = []
    for held in sorted(before.values(), key=lambda held: (-held.demand, held.id)):
        fit = _best_elsewhere(fleet, view, wishes[held.id], alone=False)
        if fit is None:
            for done in moves:
                fleet.remove(done.replica_id)
                fleet.remove(_place_of(done.replica_id))
                fleet.add(before[done.replica_id], view.host.id)
            return []
        moves.append(_move(fleet, view, held, fit, f"frees {view.host.name}, {len(view.devices)} GPUs"))
    return moves


def _best_elsewhere(fleet: Fleet, here: HostView, wish: Wish, *, alone: bool) -> Fit | None:
    """The best other host; ``alone``: one without the deployment, else one that stays in use without crowding it."""
    crowd = 0 if alone or not wish.pack else len(fleet.views)
    fits = (
        fleet.fit(view, wish)
        for view in fleet.views
        if view is not here
        and view.deployments.get(wish.deployment, 0) <= crowd
        and (alone or (view.replicas.keys() - view.leaving and _used(view) >= SLACK))
    )
    return min((fit for fit in fits if fit is not None), key=lambda fit: fit.order, default=None)


def _movable(view: HostView, held: Held, wishes: Mapping[str, Wish]) -> bool:
    return held.id in wishes and held.id not in view.leaving and bool(held.gpu_uuids)


def _move(fleet: Fleet, view: HostView, held: Held, fit: Fit, reason: str) -> Move:
    """Do it in the fleet: the replica is elsewhere, and what it held is kept by a place that is about to be left."""
    fleet.remove(held.id)
    fleet.add(replace(held, gpu_uuids=fit.gpu_uuids), fit.view.host.id)
    kept = replace(held, id=_place_of(held.id), deployment="")
    fleet.add(kept, view.host.id)
    fleet.leave(kept.id)
    return Move(held.id, view.host.name, fit.view.host.name, fit.gpu_uuids, reason, held.demand)


def _place_of(replica_id: str) -> str:
    """Name of what a replica that moves holds until its replacement serves; no replica has such a name."""
    return f"place of {replica_id}"


def _used(view: HostView) -> float:
    """GPUs taken, as a number."""
    return sum(view.taken)
