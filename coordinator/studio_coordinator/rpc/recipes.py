"""AdminService, recipes over time and elsewhere: history, differences, rollback, export, recipes of the upstream vLLM Studio."""

import asyncio
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

import grpc
from studio.v1.admin_service_pb2 import (
    Applied,
    ConvertRecipesRequest,
    ConvertRecipesResponse,
    DiffRecipeRequest,
    DiffRecipeResponse,
    ExportStateRequest,
    ExportStateResponse,
    ListRecipeRevisionsRequest,
    ListRecipeRevisionsResponse,
    RollbackRecipeRequest,
    RollbackRecipeResponse,
)
from studio.v1.deployment_pb2 import DeploymentSpec
from studio.v1.recipe_pb2 import Recipe
from studio_runtime.errors import InvalidError

from studio_coordinator.access.admission import admit, admit_changes
from studio_coordinator.access.caller import current_caller
from studio_coordinator.manifest import changed_paths, convert, export, to_yaml
from studio_coordinator.plan.presets import effective
from studio_coordinator.rpc.desired import applied_event
from studio_coordinator.rpc.guard import actor_of, guarded
from studio_coordinator.rpc.state import AdminState
from studio_coordinator.store import deployments, events, recipes
from studio_coordinator.store.database import Connection
from studio_coordinator.store.desired_state import desired_state

Context = grpc.aio.ServicerContext[Any, Any]

# What an export may be asked for by name. An effective recipe has its preset written out.
WANTED = re.compile(r"(Recipe|EffectiveRecipe|Deployment)/([^/@]+)(?:@(\d{1,9}))?")
WANTED_HINT = "Say Recipe/NAME, Recipe/NAME@REVISION, EffectiveRecipe/NAME[@REVISION] or Deployment/NAME."


class Recipes(AdminState):
    """Calls about revisions, and about manifests that come from here or from elsewhere."""

    @guarded
    async def ListRecipeRevisions(  # noqa: N802 - the contract's name
        self, request: ListRecipeRevisionsRequest, _context: Context
    ) -> ListRecipeRevisionsResponse:
        """Every revision of a recipe, newest first."""
        async with self.database.transaction() as conn:
            return ListRecipeRevisionsResponse(revisions=await recipes.list_revisions(conn, request.name))

    @guarded
    async def DiffRecipe(self, request: DiffRecipeRequest, _context: Context) -> DiffRecipeResponse:  # noqa: N802
        """The paths at which two revisions differ."""
        async with self.database.transaction() as conn:
            after = await recipes.get_recipe(conn, request.name, request.to_revision)
            earlier = request.from_revision or await recipes.previous_revision(conn, request.name, after.revision)
            before = await recipes.get_recipe(conn, request.name, earlier)
        return DiffRecipeResponse(
            from_revision=before.revision,
            to_revision=after.revision,
            changes=changed_paths(before.recipe, after.recipe),
        )

    @guarded
    async def RollbackRecipe(self, request: RollbackRecipeRequest, context: Context) -> RollbackRecipeResponse:  # noqa: N802
        """Make an older revision the newest again."""
        self.leadership.require()
        actor, now = actor_of(context), datetime.now(UTC)
        async with self.database.transaction() as conn:
            await admit(conn, current_caller(), [request.name], [])
            applied = await recipes.rollback_recipe(
                conn, request.name, request.revision, actor, now, request.expected_revision
            )
            if applied.outcome != Applied.OUTCOME_UNCHANGED:
                await admit_changes(conn, current_caller(), [(await recipes.get_recipe(conn, request.name)).recipe])
                await events.append(conn, [applied_event(applied, actor, now)])
        self.desired_changed()
        return RollbackRecipeResponse(applied=applied)

    @guarded
    async def ExportState(self, request: ExportStateRequest, _context: Context) -> ExportStateResponse:  # noqa: N802
        """What operators wrote, as a manifest: everything, or what is named."""
        wanted = list(_wanted(request.names))
        async with self.database.transaction() as conn:
            if wanted:
                return ExportStateResponse(manifest=to_yaml([await _named(conn, *one) for one in wanted]))
            state = await desired_state(conn)
        # A thousand recipes take a second to write out, which the sessions of hosts need not wait for.
        return ExportStateResponse(manifest=await asyncio.to_thread(export, state))

    @guarded
    async def ConvertRecipes(self, request: ConvertRecipesRequest, _context: Context) -> ConvertRecipesResponse:  # noqa: N802
        """Recipes of the upstream vLLM Studio in our words. Nothing is stored."""
        try:
            converted = await asyncio.to_thread(convert, request.upstream)
        except ValueError as error:
            raise InvalidError(
                f"these are no recipes of the upstream vLLM Studio: {error}",
                "Expected is JSON: one recipe, a list of them, or an object with a list under recipes.",
            ) from None
        return ConvertRecipesResponse(manifest=converted.manifest, report=converted.report)


def _wanted(names: Iterable[str]) -> Iterator[tuple[str, str, int]]:
    """Kind, name and revision (0: the newest) of each. Raises InvalidError."""
    for name in names:
        found = WANTED.fullmatch(name)
        if found is None or (found[1] == "Deployment" and found[3]):
            raise InvalidError(f"{name!r} names nothing that can be exported", WANTED_HINT)
        yield found[1], found[2], int(found[3] or 0)


async def _named(conn: Connection, kind: str, name: str, revision: int) -> Recipe | DeploymentSpec:
    if kind == "Deployment":
        return (await deployments.get_deployment(conn, name)).spec
    recipe = (await recipes.get_recipe(conn, name, revision)).recipe
    return effective(recipe) if kind == "EffectiveRecipe" else recipe
