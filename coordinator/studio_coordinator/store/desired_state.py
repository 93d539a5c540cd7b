"""Everything that operators decided, as it was at one moment, for an export."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection
from studio.v1.deployment_pb2 import Deployment
from studio.v1.recipe_pb2 import RecipeRevision
from studio_runtime.errors import NotFoundError

from studio_coordinator.manifest import DesiredState
from studio_coordinator.manifest.kinds import Item
from studio_coordinator.plan.course import kept_revision
from studio_coordinator.store.deployments import list_deployments
from studio_coordinator.store.hosts import list_hosts
from studio_coordinator.store.prices import list_prices
from studio_coordinator.store.providers import list_providers
from studio_coordinator.store.recipes import get_recipe, list_recipes
from studio_coordinator.store.tenants import DEFAULT, list_tenants

# Each of several queries would else see what others commit between them.
ONE_MOMENT = text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")


async def desired_state(conn: AsyncConnection) -> DesiredState:
    """Everything that operators wrote and have not deleted. The first statement of its transaction."""
    await conn.execute(ONE_MOMENT)
    written = [one for one in await list_deployments(conn) if one.state != Deployment.STATE_STOPPING]
    deployments = [await _as_it_serves(conn, one) for one in written]
    pins = sorted({(one.spec.recipe, one.spec.recipe_revision) for one in deployments if one.spec.recipe_revision})
    pinned: list[RecipeRevision] = [await get_recipe(conn, name, revision) for name, revision in pins]
    hosts = [host for host in await list_hosts(conn) if host.labels or host.cordoned or host.draining]
    # The tenant that every system has says nothing as long as nobody changed it.
    tenants = [one for one in await list_tenants(conn) if one.name != DEFAULT or one.version > 1]
    fleet: list[Item] = [*tenants, *await list_prices(conn), *await list_providers(conn), *hosts]
    return DesiredState(await list_recipes(conn), pinned, deployments, fleet)


async def _as_it_serves(conn: AsyncConnection, deployment: Deployment) -> Deployment:
    """Where what the manifest names was rolled back, the deployment as if it pinned what serves instead."""
    kept = kept_revision(deployment)
    if kept is None:
        return deployment
    try:
        await get_recipe(conn, *kept)
    except NotFoundError:
        # Its recipe was deleted since: there is nothing else to name.
        return deployment
    pinned = Deployment()
    pinned.CopyFrom(deployment)
    pinned.spec.recipe, pinned.spec.recipe_revision = kept
    return pinned
