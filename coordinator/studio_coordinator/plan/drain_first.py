"""Which of a deployment's old replicas have to go so that a new one has room, where no surge is possible."""

from collections import defaultdict
from collections.abc import Sequence

from studio_coordinator.plan.fleet import Fleet
from studio_coordinator.plan.wish import Wish


def room_makers(fleet: Fleet, wish: Wish, replica_ids: Sequence[str]) -> frozenset[str]:
    """The fewest of ``replica_ids``, all on one host, without which ``wish`` has room there; empty where no room comes of it.

    The ids come in the order in which they are given up. Replicas that no room would come of go on serving.
    """
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
