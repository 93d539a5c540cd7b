"""Stage 1 of placement: whether a host could run a replica now. For every host that cannot, the reason is in ``why_not``."""

from collections.abc import Collection

from studio_coordinator.plan.occupancy import HostView
from studio_coordinator.plan.wish import Wish

# What an agent lists in `HostFacts.features` if it can start one part of a replica over several hosts. An older one would pass
# over what it is told of the others, and serve its part as a whole.
GROUPS = "groups"


def host_refusal(view: HostView, wish: Wish, rivals: Collection[str]) -> str:
    """Why the host as a whole does not take the replica; empty when only its GPUs have a say.

    ``rivals``: deployments that must not meet this one.
    """
    if barred := view.closed or _agent_refusal(view, wish):
        return barred
    missing = [f"{key}={value}" for key, value in wish.labels if view.labels.get(key) != value]
    if missing:
        return f"without the label {', '.join(missing)}"
    if wish.hosts and view.host.name not in wish.hosts:
        return f"not among placement.hosts ({', '.join(wish.hosts)})"
    if rivals and (met := sorted(name for name in rivals if name in view.deployments)):
        return f"anti-affinity keeps it apart from {met[0]}, which runs there"
    oldest = wish.gpus.minimum.driver
    if wish.gpus.count and 0 < view.driver < oldest:
        return f"GPU driver {view.host.facts.gpu_driver}, {wish.engine} needs {oldest} or newer"
    return _memory_refusal(view, wish) or _disk_refusal(view, wish)


def _agent_refusal(view: HostView, wish: Wish) -> str:
    if wish.span > 1 and GROUPS not in view.host.facts.features:
        return "its agent is too old for a replica over several hosts: upgrade it"
    return ""


def _memory_refusal(view: HostView, wish: Wish) -> str:
    """The host's memory: what our replicas reserved or what is used, whichever is more. Unknown sizes refuse nobody."""
    facts, figures = view.host.facts, view.host.figures
    if not wish.host_memory_bytes or not facts.memory_bytes:
        return ""
    used = max(view.host_memory_reserved, figures.memory_used_bytes if figures.HasField("memory_used_bytes") else 0)
    free = facts.memory_bytes - used
    if free >= wish.host_memory_bytes:
        return ""
    return f"{free / 2**30:.1f} GiB of host memory free, {wish.host_memory_bytes / 2**30:.1f} GiB wanted"


def _disk_refusal(view: HostView, wish: Wish) -> str:
    figures = view.host.figures
    if not wish.disk_bytes or wish.weights in view.weights or not figures.HasField("disk_free_bytes"):
        return ""
    if figures.disk_free_bytes >= wish.disk_bytes:
        return ""
    return f"{figures.disk_free_bytes / 2**30:.1f} GiB of disk free, the weights need {wish.disk_bytes / 2**30:.1f} GiB"
