"""In which order deployments choose their hosts."""

from collections.abc import Iterable, Mapping

from studio.v1.deployment_pb2 import Deployment
from studio.v1.recipe_pb2 import Recipe

from studio_coordinator.plan.wish import Wish, wish_of

OrderKey = tuple[float, ...]


def order_key(wish: Wish) -> OrderKey:
    """Higher priority first, then what is hard to place: many GPUs, large ones, few hosts allowed."""
    need = wish.gpus
    choosy = bool(need.models) + bool(wish.labels) + 2 * bool(wish.hosts) + 3 * (need.pinned is not None)
    return (-wish.priority, -need.demand, -need.memory_bytes, -choosy)


def in_order(deployments: Iterable[Deployment], recipes: Mapping[tuple[str, int], Recipe]) -> list[Deployment]:
    """The deployments as they choose; the name makes the order of equals the same every time."""

    def key(deployment: Deployment) -> tuple[OrderKey, str]:
        recipe = recipes.get((deployment.spec.recipe, deployment.target_revision), Recipe())
        return order_key(wish_of(deployment, recipe)), deployment.name

    return sorted(deployments, key=key)
