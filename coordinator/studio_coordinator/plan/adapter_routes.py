"""Routes of LoRA adapters: each is a model of its own, answered by those replicas of a deployment whose engines have it.

Adapters that the deployment's recipe names are known even while nothing has them, so that "unknown model" and "not up right now"
stay two different answers. A name that is taken already, by a deployment, an alias or an adapter of an earlier deployment, goes
to who had it: requests for it never mean two models.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence

from studio.v1.recipe_pb2 import Recipe
from studio.v1.replica_pb2 import Replica
from studio.v1.route_pb2 import Route


def adapter_routes(
    base: Route, replicas: Sequence[Replica], recipe: Recipe | None, taken: Collection[str]
) -> Iterator[Route]:
    """A route for each adapter of a deployment, by name; ``base`` is the deployment's own, ``replicas`` those that serve."""
    loaded = {replica.id: frozenset(replica.loaded_adapters) for replica in replicas}
    known = {adapter.name for adapter in recipe.lora} if recipe is not None else set()
    for name in sorted(known.union(*loaded.values()) - set(taken)):
        yield _route(name, base, loaded)


def _route(name: str, base: Route, loaded: Mapping[str, Collection[str]]) -> Route:
    route = Route()
    route.CopyFrom(base)
    route.model = name
    del route.aliases[:]
    del route.endpoints[:]
    for endpoint in base.endpoints:
        if name in loaded.get(endpoint.replica_id, ()):
            route.endpoints.add().CopyFrom(endpoint)
            route.endpoints[-1].engine_model = name
    if base.endpoints and not route.endpoints:
        route.unavailable_reason = f"no replica of {base.model} has the adapter {name}"
    return route
