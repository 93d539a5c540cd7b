"""All recipes and deployments as they were at one moment, for an export."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection
from studio.v1.deployment_pb2 import Deployment
from studio.v1.recipe_pb2 import RecipeRevision

from studio_coordinator.manifest import DesiredState
from studio_coordinator.store.deployments import list_deployments
from studio_coordinator.store.recipes import get_recipe, list_recipes

# Each of several queries would else see what others commit between them.
ONE_MOMENT = text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")


async def desired_state(conn: AsyncConnection) -> DesiredState:
    """Everything that operators wrote and have not deleted. The first statement of its transaction."""
    await conn.execute(ONE_MOMENT)
    deployments = [one for one in await list_deployments(conn) if one.state != Deployment.STATE_STOPPING]
    pins = sorted({(one.spec.recipe, one.spec.recipe_revision) for one in deployments if one.spec.recipe_revision})
    pinned: list[RecipeRevision] = [await get_recipe(conn, name, revision) for name, revision in pins]
    return DesiredState(await list_recipes(conn), pinned, deployments)
