"""In which order deployments choose their hosts."""

from collections.abc import Iterable, Mapping

from studio.v1.deployment_pb2 import Deployment
from studio.v1.recipe_pb2 import Recipe

from studio_coordinator.plan.sizing import UNKNOWN, Sizing
from studio_coordinator.plan.wish import Wish, wish_of

OrderKey = tuple[float, ...]


def order_key(wish: Wish) -> OrderKey:
    """Higher priority first, then what is hard to place: many GPUs, large ones, few hosts allowed."""
    need = wish.gpus
    choosy = bool(need.models) + bool(wish.labels) + 2 * bool(wish.hosts) + 3 * (need.pinned is not None)
    return (-wish.priority, -wish.demand, -need.memory_bytes, -choosy)


def in_order(
    deployments: Iterable[Deployment],
    recipes: Mapping[tuple[str, int], Recipe],
    sizes: Mapping[tuple[str, int], Sizing],
) -> list[Deployment]:
    """The deployments as they choose; the name makes the order of equals the same every time."""

    def key(deployment: Deployment) -> tuple[OrderKey, str]:
        revision = deployment.spec.recipe, deployment.target_revision
        wish = wish_of(deployment, recipes.get(revision, Recipe()), sizes.get(revision, UNKNOWN))
        return order_key(wish), deployment.name

    return sorted(deployments, key=key)
