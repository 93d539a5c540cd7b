"""Room for a replica by moving others that were placed in the same pass: none of them runs yet, so a move costs nothing.

Placing one after the other leaves gaps that a look at all of them would not: the first took the only GPU that the last can use.
Where a replica finds no room, each host is tried on which it would fit without the movable ones there; it is taken if all of
those find another place. Running replicas are never moved (see ``rebalance``).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from studio_coordinator.plan.fleet import Fit, Fleet
from studio_coordinator.plan.occupancy import Held, HostView
from studio_coordinator.plan.wish import Wish

# Hosts that are tried; beyond it the gain is not worth the time.
HOSTS_TRIED = 64


@dataclass(frozen=True)
class Room:
    """Where the replica goes, and where those go that made room: already so in the fleet."""

    fit: Fit
    moved: Mapping[str, Fit]


def make_room(fleet: Fleet, replica_id: str, wish: Wish, movable: Mapping[str, Wish]) -> Room | None:
    """Take the first host that can be cleared, best one first, and count everyone in; None leaves the fleet as it is.

    ``movable``: wishes of the replicas placed in this pass, by id.
    """
    found: list[tuple[Fit, HostView]] = []
    hosts = {view.ordinal: view for replica in movable if (view := fleet.host_of(replica)) is not None}
    for _, view in sorted(hosts.items()):
        fit = fleet.fit(view.without([replica for replica in view.replicas if replica in movable]), wish)
        if fit is not None:
            found.append((fit, view))
    for fit, view in sorted(found, key=lambda pair: pair[0].order)[:HOSTS_TRIED]:
        room = _clear(fleet, view, fit, replica_id, wish, movable)
        if room is not None:
            return room
    return None


def _clear(
    fleet: Fleet, view: HostView, fit: Fit, replica_id: str, wish: Wish, movable: Mapping[str, Wish]
) -> Room | None:
    """Take the movable replicas off the host, let the replica in, and put them back wherever there is room."""
    moving = {replica: view.replicas[replica] for replica in sorted(view.replicas) if replica in movable}
    for replica in moving:
        fleet.remove(replica)
    fleet.add(Held.at(replica_id, wish, fit.gpu_uuids), view.host.id)
    moved: dict[str, Fit] = {}
    for replica, before in sorted(moving.items(), key=lambda item: (-item[1].demand, item[0])):
        place = fleet.best(movable[replica])
        if place is None:
            for placed in (*moved, replica_id):
                fleet.remove(placed)
            for was in moving.values():
                fleet.add(was, view.host.id)
            return None
        fleet.add(replace(before, gpu_uuids=place.gpu_uuids), place.view.host.id)
        moved[replica] = place
    return Room(fit, moved)
