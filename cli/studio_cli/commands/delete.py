"""``studio delete``."""

from typing import Annotated

import typer
from studio.v1.admin_service_pb2 import DeleteDeploymentRequest, DeleteRecipeRequest

from studio_cli.command import IfVersionOption, YesOption, command
from studio_cli.completion import completed_by, deployment_names, recipe_names
from studio_cli.confirm import confirm
from studio_cli.coordinator import Coordinator
from studio_cli.report import Report


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    delete = typer.Typer(
        name="delete", help="Remove a deployment or a recipe.", rich_markup_mode=None, no_args_is_help=True
    )
    app.add_typer(delete)
    command(delete, delete_deployment, "studio delete deployment chat --yes", name="deployment")
    command(delete, delete_recipe, "studio delete recipe qwen3 --yes", name="recipe")


async def delete_deployment(
    coordinator: Coordinator,
    name: Annotated[str, typer.Argument(metavar="NAME", autocompletion=completed_by(deployment_names))],
    if_version: IfVersionOption = 0,
    yes: YesOption = False,
) -> None:
    """Remove a deployment.

    Its engines stop once their requests have finished.
    """
    confirm("deployment", name, f"applications that use {name} will get errors", yes=yes)
    request = DeleteDeploymentRequest(name=name, expected_version=if_version)
    await coordinator.call(coordinator.admin.DeleteDeployment, request, f"delete deployment {name}")
    Report.on_standard_output().line(f"deployment {name} deleted")


async def delete_recipe(
    coordinator: Coordinator,
    name: Annotated[str, typer.Argument(metavar="NAME", autocompletion=completed_by(recipe_names))],
    yes: YesOption = False,
) -> None:
    """Remove a recipe with all its revisions.

    One that a deployment uses is not removed.
    """
    confirm("recipe", name, f"all revisions of {name} will be gone", yes=yes)
    request = DeleteRecipeRequest(name=name)
    await coordinator.call(coordinator.admin.DeleteRecipe, request, f"delete recipe {name}")
    Report.on_standard_output().line(f"recipe {name} deleted")
