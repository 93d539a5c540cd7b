"""``studio recipes``."""

from datetime import UTC, datetime
from typing import Annotated

import typer
import yaml
from studio.v1.admin_service_pb2 import GetRecipeRequest, ListRecipesRequest
from studio.v1.recipe_pb2 import RecipeRevision

from studio_cli import wording
from studio_cli.command import OutputOption, command, noun
from studio_cli.completion import completed_by, recipe_names
from studio_cli.coordinator import Coordinator
from studio_cli.output import Answer, Format, show_list, write_item
from studio_cli.views.plain import plain
from studio_cli.views.recipes import recipe_table


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    recipes = noun(app, "recipes", "How models are served.")
    command(recipes, list_recipes, "studio recipes", "studio recipes -o wide", name="list")
    command(recipes, show_recipe, "studio recipes show qwen3", "studio recipes show qwen3 --revision 2", name="show")


async def list_recipes(coordinator: Coordinator, output: OutputOption = Format.TABLE) -> None:
    """List the newest revision of each recipe."""

    async def fetch() -> Answer:
        answer = await coordinator.call(coordinator.admin.ListRecipes, ListRecipesRequest(), "list the recipes")
        return Answer(list(answer.recipes), recipe_table(answer.recipes, datetime.now(UTC)))

    await show_list(fetch, output)


async def show_recipe(
    coordinator: Coordinator,
    name: Annotated[str, typer.Argument(metavar="NAME", autocompletion=completed_by(recipe_names))],
    revision: Annotated[int, typer.Option(min=0, help="0: the newest.")] = 0,
    output: OutputOption = Format.TABLE,
) -> None:
    """Show one revision of a recipe."""
    request = GetRecipeRequest(name=name, revision=revision)
    answer = await coordinator.call(coordinator.admin.GetRecipe, request, f"look at recipe {name}")
    write_item(answer.recipe, lambda: recipe_lines(answer.recipe), output)


def recipe_lines(revision: RecipeRevision) -> list[str]:
    """Who made the revision when, and what it says."""
    age = wording.age(revision.created_at, datetime.now(UTC))
    text = yaml.safe_dump(plain(revision.recipe, defaults=False), sort_keys=False, allow_unicode=True)
    return [f"# {revision.recipe_name} r{revision.revision}, made {age} ago by {revision.actor}", *text.splitlines()]
