"""``studio estimate``: what a model needs of a GPU.

Of a stored recipe the coordinator says it, corrected by what its starts measured. Of a directory (``--model``) the coordinator's
own program says it here: no coordinator need run, and all options are that program's, its ``--help`` among them.
"""

import os
import sys
from typing import Annotated, Any

import typer
from studio.v1.admin_service_pb2 import ExportStateRequest, PlanRequest
from studio_runtime.errors import NotFoundError
from typer.core import TyperCommand

from studio_cli.command import OutputOption, command
from studio_cli.completion import completed_by, recipe_names
from studio_cli.coordinator import Coordinator
from studio_cli.output import Format, write_item
from studio_cli.views.plan import estimate_lines


class _RecipeOrDirectory(TyperCommand):
    """Hands everything on where a directory is named."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Become the coordinator's program for ``--model``; else read the options of this command."""
        if any(word.partition("=")[0] == "--model" for word in args):
            argv = [sys.executable, "-m", "studio_coordinator", "estimate", *args]
            os.execv(argv[0], argv)  # noqa: S606 - the roles meet on the command line; there is no shell
        return super().parse_args(ctx, args)


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    command(
        app,
        estimate,
        "studio estimate qwen3",
        "studio estimate --model /srv/models/qwen3 --gpu-memory-gib 80 --tp 2 --explain",
        "studio estimate --model . --help",
        cls=_RecipeOrDirectory,
    )


async def estimate(
    coordinator: Coordinator,
    name: Annotated[str, typer.Argument(metavar="RECIPE", autocompletion=completed_by(recipe_names))],
    output: OutputOption = Format.TABLE,
) -> None:
    """Say what a model needs of a GPU, part by part.

    Each part has its source (formula, measured or bound) and its error. With --model DIR in place of a recipe it needs no
    coordinator.
    """
    admin = coordinator.admin
    stored = await coordinator.call(admin.ExportState, ExportStateRequest(names=[f"Recipe/{name}"]), f"look at {name}")
    request = PlanRequest(manifest=stored.manifest, source_name=f"recipe {name}")
    answer = await coordinator.call(admin.Plan, request, f"estimate {name}")
    found = next((planned for planned in answer.replicas if planned.HasField("estimate")), None)
    if found is None:
        why = answer.replicas[0].reason if answer.replicas else "nothing is known of its model"
        raise NotFoundError(f"there is no estimate of {name}: {why}", "Engines that use no GPU have none.")
    write_item(found.estimate, lambda: list(estimate_lines(found.estimate)), output)
