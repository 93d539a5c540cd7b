"""Stage 2 of placement: which of the feasible hosts is best. Lower is better; the host's name breaks every tie.

In order of weight:

1. ``spread: host`` (the default): a host without a replica of this deployment
2. the GPUs of a replica close to each other: one NVLink domain, one NUMA node
3. the smallest GPUs that do; the largest where the need is unknown
4. the weights already there
5. a shared GPU that is already shared, then the host with the fewest free GPUs left, then the fullest shared GPU: whole hosts
   stay free for who needs them whole
6. ``spread: pack``: a host that already has this deployment

A replica without GPUs goes where no GPUs are, and there where the fewest replicas are.
"""

from typing import TypeAlias

from studio_coordinator.plan.pick import Pick
from studio_coordinator.plan.wish import Wish

Key: TypeAlias = tuple[float, ...]


def rank(wish: Wish, chosen: Pick, *, same: int, weights_absent: bool, has_gpus: bool, replicas: int) -> Key:
    """Sort key of a host on which ``chosen`` would be taken.

    ``same``: replicas of this deployment there; ``replicas``: of any.
    """
    if wish.gpus.count == 0:
        return (same * (not wish.pack), weights_absent, has_gpus, -same if wish.pack else replicas)
    room = (chosen.distance, chosen.waste, weights_absent, chosen.opened, chosen.free_after, chosen.left)
    return (*room, -same) if wish.pack else (same, *room)
