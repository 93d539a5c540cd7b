"""``studio recipes``: what there is, and how it came to be so."""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

import typer
import yaml
from studio.v1.admin_service_pb2 import (
    DiffRecipeRequest,
    GetRecipeRequest,
    ListDeploymentsRequest,
    ListRecipeRevisionsRequest,
    ListRecipesRequest,
    RollbackRecipeRequest,
)
from studio.v1.recipe_pb2 import RecipeRevision

from studio_cli import wording
from studio_cli.command import OutputOption, command, noun
from studio_cli.commands import recipes_elsewhere
from studio_cli.commands.apply import apply, describe_applied
from studio_cli.commands.state import write_manifest
from studio_cli.completion import completed_by, recipe_names
from studio_cli.coordinator import Coordinator
from studio_cli.output import Answer, Format, show_list, write_item
from studio_cli.views.plain import plain
from studio_cli.views.recipe_uses import use_lines
from studio_cli.views.recipes import history_table, recipe_table

NameArgument = Annotated[str, typer.Argument(metavar="NAME", autocompletion=completed_by(recipe_names))]
RevisionOption = Annotated[int, typer.Option(min=0, help="0: the newest.")]


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    recipes = noun(app, "recipes", "How models are served.")
    command(recipes, list_recipes, "studio recipes", "studio recipes -o wide", name="list")
    command(
        recipes,
        show_recipe,
        "studio recipes show qwen3",
        "studio recipes show qwen3 --revision 2",
        "studio recipes show qwen3 --effective",
        name="show",
    )
    command(recipes, get_recipe, "studio recipes get qwen3 > qwen3.yaml", name="get")
    command(recipes, apply, "studio recipes apply -f qwen3.yaml", "studio recipes apply -f qwen3.yaml --if-revision 7")
    command(recipes, list_history, "studio recipes history qwen3", name="history")
    command(
        recipes,
        show_differences,
        "studio recipes diff qwen3",
        "studio recipes diff qwen3 --from 3 --to 7",
        name="diff",
    )
    command(
        recipes,
        rollback,
        "studio recipes rollback qwen3",
        "studio recipes rollback qwen3 --to 3 --if-revision 7",
    )
    recipes_elsewhere.register(recipes)


async def list_recipes(coordinator: Coordinator, output: OutputOption = Format.TABLE) -> None:
    """List the newest revision of each recipe."""

    async def fetch() -> Answer:
        answer = await coordinator.call(coordinator.admin.ListRecipes, ListRecipesRequest(), "list the recipes")
        return Answer(list(answer.recipes), recipe_table(answer.recipes, datetime.now(UTC)))

    await show_list(fetch, output)


async def show_recipe(
    coordinator: Coordinator,
    name: NameArgument,
    revision: RevisionOption = 0,
    effective: Annotated[
        bool, typer.Option("--effective", help="With its preset written out: what the engine is started with.")
    ] = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Show one revision of a recipe."""
    if effective:
        await write_manifest(coordinator, [named("EffectiveRecipe", name, revision)], output)
        return
    request = GetRecipeRequest(name=name, revision=revision)
    answer = await coordinator.call(coordinator.admin.GetRecipe, request, f"look at recipe {name}")
    uses = await lines_of_uses(coordinator, name) if not output.is_data else []
    write_item(answer.recipe, lambda: recipe_lines(answer.recipe, uses), output)


async def get_recipe(
    coordinator: Coordinator, name: NameArgument, revision: RevisionOption = 0, output: OutputOption = Format.YAML
) -> None:
    """Write a recipe as a manifest.

    It is as it can be edited and applied again; above it stands which revision each of its deployments serves.
    """
    if output is Format.YAML:
        sys.stdout.writelines(f"{line}\n" for line in await lines_of_uses(coordinator, name))
    await write_manifest(coordinator, [named("Recipe", name, revision)], output)


async def list_history(coordinator: Coordinator, name: NameArgument, output: OutputOption = Format.TABLE) -> None:
    """List the revisions of a recipe, newest first."""

    async def fetch() -> Answer:
        request = ListRecipeRevisionsRequest(name=name)
        call = coordinator.call(coordinator.admin.ListRecipeRevisions, request, f"list the revisions of {name}")
        revisions = (await call).revisions
        return Answer(list(revisions), history_table(revisions, datetime.now(UTC)))

    await show_list(fetch, output)


async def show_differences(
    coordinator: Coordinator,
    name: NameArgument,
    earlier: Annotated[int, typer.Option("--from", min=0, help="0: the one before the other.")] = 0,
    later: Annotated[int, typer.Option("--to", min=0, help="0: the newest.")] = 0,
    output: OutputOption = Format.TABLE,
) -> None:
    """Show what differs between two revisions of a recipe.

    Values of environment variables are not shown.
    """
    request = DiffRecipeRequest(name=name, from_revision=earlier, to_revision=later)
    answer = await coordinator.call(coordinator.admin.DiffRecipe, request, f"compare revisions of {name}")
    head = f"# {name} r{answer.from_revision} → r{answer.to_revision}"
    write_item(answer, lambda: [head, *(answer.changes or ["no difference"])], output)


async def rollback(
    coordinator: Coordinator,
    name: NameArgument,
    to: Annotated[int, typer.Option("--to", min=0, help="Which revision; 0: the one before the newest.")] = 0,
    if_revision: Annotated[
        int,
        typer.Option(
            "--if-revision",
            metavar="N",
            min=0,
            show_default=False,
            help="Only if the recipe is still at revision N; else exit 4, with what changed.",
        ),
    ] = 0,
    output: OutputOption = Format.TABLE,
) -> None:
    """Make an older revision of a recipe the newest again.

    That is a new revision; deployments that follow the recipe get it, as after any change.
    """
    request = RollbackRecipeRequest(name=name, revision=to, expected_revision=if_revision)
    answer = await coordinator.call(coordinator.admin.RollbackRecipe, request, f"roll {name} back")
    write_item(
        answer.applied,
        lambda: [describe_applied(answer.applied), *(f"  {line}" for line in answer.applied.changes)],
        output,
    )


def named(kind: str, name: str, revision: int) -> str:
    """How an export is asked for one revision of a recipe."""
    return f"{kind}/{name}@{revision}" if revision else f"{kind}/{name}"


async def lines_of_uses(coordinator: Coordinator, name: str) -> list[str]:
    """Which revision each deployment of the recipe serves."""
    call = coordinator.call(coordinator.admin.ListDeployments, ListDeploymentsRequest(), "list the deployments")
    return use_lines(name, (await call).deployments)


def recipe_lines(revision: RecipeRevision, uses: Sequence[str]) -> list[str]:
    """Who made the revision when, who serves which, and what it says."""
    age = wording.age(revision.created_at, datetime.now(UTC))
    text = yaml.safe_dump(plain(revision.recipe, defaults=False), sort_keys=False, allow_unicode=True)
    head = f"# {revision.recipe_name} r{revision.revision}, made {age} ago by {revision.actor}"
    return [head, *uses, *text.splitlines()]
