"""Stage 3 of placement: choose the host and its GPUs. "Why not" is an answer for every host."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from studio.v1.deployment_pb2 import Deployment
from studio.v1.host_pb2 import Host
from studio.v1.recipe_pb2 import Recipe

from studio_coordinator.plan.feasible import Books, fitting_gpus, gpu_need, why_not
from studio_coordinator.plan.rank import rank


@dataclass(frozen=True)
class Placed:
    """A host and GPUs were found."""

    host: Host
    gpu_uuids: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class Unplaced:
    """No host fits; the sentence names every host and its reason, alike ones together."""

    reason: str


def place(deployment: Deployment, recipe: Recipe, hosts: Sequence[Host], books: Books) -> Placed | Unplaced:
    """Find room for one replica. The same input gives the same answer; ``books`` is not changed."""
    need = gpu_need(recipe)
    refusals = {host.name: why_not(host, deployment, need, books) for host in hosts}
    fitting = [host for host in hosts if not refusals[host.name]]
    if not fitting:
        return Unplaced(explain(refusals))
    best = min(fitting, key=lambda host: (rank(host, deployment, need, books), host.name))
    # On a shared GPU the fullest that still fits is taken, so that whole GPUs stay whole.
    gpus = sorted(fitting_gpus(best, deployment, need, books), key=lambda gpu: -books.taken[gpu.uuid])[: need.count]
    return Placed(best, tuple(gpu.uuid for gpu in gpus), f"{len(fitting)} of {len(hosts)} hosts fit")


def explain(refusals: dict[str, str]) -> str:
    """One sentence for the refusals of all hosts."""
    if not refusals:
        return "no host has joined yet: start an agent"
    alike: dict[str, list[str]] = defaultdict(list)
    for name, reason in sorted(refusals.items()):
        alike[reason].append(name)
    groups = sorted(alike.items(), key=lambda item: (-len(item[1]), item[1]))
    parts = [f"{_names(names)}: {reason}" for reason, names in groups]
    return "no host fits: " + "; ".join(parts)


def _names(names: list[str]) -> str:
    shown = 4
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")
