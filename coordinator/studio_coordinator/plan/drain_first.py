"""Which of a deployment's old replicas have to go so that a new one has room, where no surge is possible."""

from collections import defaultdict
from collections.abc import Sequence

from studio_coordinator.plan.across import has_room_without, parts_of
from studio_coordinator.plan.fleet import Fleet
from studio_coordinator.plan.wish import Wish


def room_makers(fleet: Fleet, wish: Wish, replica_ids: Sequence[str]) -> frozenset[str]:
    """The fewest of ``replica_ids``, all on one host, without which ``wish`` has room there; empty where no room comes of it.

    The ids come in the order in which they are given up. Replicas that no room would come of go on serving.
    """
    if parts := parts_of(fleet, wish):
        return _room_makers_across(fleet, parts, replica_ids)
    by_host: dict[int, list[str]] = defaultdict(list)
    found: list[frozenset[str]] = []
    for replica_id in replica_ids:
        view = fleet.host_of(replica_id)
        if view is None:
            continue
        together = by_host[view.ordinal]
        together.append(replica_id)
        found += [
            leaving
            for leaving in (frozenset({replica_id}), frozenset(together))
            if fleet.fit(view.without(view.leaving | leaving), wish) is not None
        ]
    return min(found, key=len, default=frozenset())


def _room_makers_across(fleet: Fleet, parts: Sequence[Wish], replica_ids: Sequence[str]) -> frozenset[str]:
    """The same for a replica over several hosts: one that does, else as many of the first as it takes for all of its parts."""
    alone = [frozenset({replica_id}) for replica_id in replica_ids]
    together = [frozenset(replica_ids[:count]) for count in range(2, len(replica_ids) + 1)]
    made = (leaving for leaving in (*alone, *together) for part in parts if has_room_without(fleet, part, leaving))
    return next(made, frozenset())
