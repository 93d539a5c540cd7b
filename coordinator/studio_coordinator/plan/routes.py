"""The route table that follows from the replicas.

An endpoint is in the table while its engine answers and nobody wants it gone. A host that fell silent keeps its endpoints until
it is LOST: the gateway sees for itself whether requests still succeed. A deployment without endpoints keeps its route with a
sentence for the caller, so that "unknown model" and "not up right now" stay two different answers.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from studio.v1.deployment_pb2 import Deployment
from studio.v1.recipe_pb2 import Recipe
from studio.v1.replica_pb2 import Replica
from studio.v1.route_pb2 import Endpoint, ProviderRoute, Route, RouteTable

from studio_coordinator.plan.adapter_routes import adapter_routes
from studio_coordinator.plan.course import traffic_weights
from studio_coordinator.plan.wakeable import tell_absence


def desired_table(
    current: RouteTable,
    term: int,
    deployments: Sequence[Deployment],
    replicas: Sequence[Replica],
    providers: Sequence[ProviderRoute],
    recipes: Mapping[tuple[str, int], Recipe],
) -> RouteTable | None:
    """The next table, or None when ``current`` says the same already."""
    own, serving = defaultdict(list), defaultdict(list)
    for replica in replicas:
        own[replica.deployment].append(replica)
        leaves = replica.retiring or replica.sleep_level
        if replica.engine_ready and not leaves and replica.state != Replica.STATE_LOST:
            serving[replica.deployment].append(replica)
    table = RouteTable(version=current.version + 1, term=term)
    in_order = sorted(deployments, key=lambda item: item.name)
    table.routes.extend(_route(item, serving[item.name], own[item.name], recipes) for item in in_order)
    taken = {name for route in table.routes for name in (route.model, *route.aliases)}
    taken |= {provider.model for provider in providers}
    for deployment, base in zip(in_order, list(table.routes), strict=True):
        recipe = recipes.get((deployment.spec.recipe, deployment.target_revision))
        table.routes.extend(adapter_routes(base, serving[deployment.name], recipe, taken))
        taken |= {route.model for route in table.routes}
    table.provider_routes.extend(sorted(providers, key=lambda item: item.model))
    if list(table.routes) == list(current.routes) and list(table.provider_routes) == list(current.provider_routes):
        return None
    return table


def _route(
    deployment: Deployment,
    replicas: Sequence[Replica],
    own: Sequence[Replica],
    recipes: Mapping[tuple[str, int], Recipe],
) -> Route:
    spec = deployment.spec
    route = Route(
        model=deployment.name,
        aliases=spec.aliases,
        created_at=deployment.created_at,
        strategy=spec.strategy,
        fallbacks=spec.fallbacks,
        via=spec.via,
        tenant=spec.tenant,
    )
    weights = traffic_weights(deployment, replicas)
    for replica in sorted(replicas, key=lambda item: item.id):
        recipe = recipes.get((replica.recipe_name, replica.recipe_revision))
        route.endpoints.append(
            Endpoint(
                replica_id=replica.id,
                base_url=replica.base_url,
                weight=weights[replica.id],
                engine_model=deployment.name,
                recipe_revision=replica.recipe_revision,
                capacity=recipe.args.max_num_seqs if recipe is not None else 0,
            )
        )
    if not route.endpoints:
        tell_absence(route, deployment, own)
    return route
