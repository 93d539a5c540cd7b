"""Stage 2 of placement: which of the feasible hosts is best. Lower is better; the host's name breaks every tie."""

from studio.v1.deployment_pb2 import Deployment
from studio.v1.host_pb2 import Host

from studio_coordinator.plan.feasible import Books, GpuNeed


def rank(host: Host, deployment: Deployment, need: GpuNeed, books: Books) -> tuple[float, ...]:
    """Sort key of ``host``.

    ``spread: host`` (the default): hosts with the fewest replicas of this deployment first, then with the fewest of any.
    ``spread: pack``: the host that has least room left, so that whole hosts stay free.
    """
    here = books.replicas[host.id]
    same = len(here.get(deployment.name, ()))
    total = sum(len(ids) for ids in here.values())
    free = sum(1 - min(1.0, books.taken[gpu.uuid]) for gpu in host.gpus) - need.count * need.share
    if deployment.spec.placement.spread == "pack":
        return (free, -same, -total)
    return (same, total, -free)
