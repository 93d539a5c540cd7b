"""``studio plan``."""

from typing import Annotated

import typer
from studio.v1.admin_service_pb2 import PlanRequest

from studio_cli.command import OutputOption, command
from studio_cli.commands.apply import read_manifest
from studio_cli.coordinator import Coordinator
from studio_cli.output import Format, write_item
from studio_cli.views.plan import plan_lines


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    command(app, plan, "studio plan -f recipe.yaml", "studio plan -f recipe.yaml -o json")


async def plan(
    coordinator: Coordinator,
    file: Annotated[str, typer.Option("--file", "-f", metavar="FILE", help="The manifest; - reads standard input.")],
    output: OutputOption = Format.TABLE,
) -> None:
    """Say what applying a manifest would do, before anything runs.

    For each replica: the host and why, the GPU memory it needs, the command, and why not the other hosts. Nothing is changed.
    """
    source = "standard input" if file == "-" else file
    request = PlanRequest(manifest=read_manifest(file), source_name=source)
    answer = await coordinator.call(coordinator.admin.Plan, request, f"plan {source}")
    write_item(answer, lambda: list(plan_lines(answer)), output)
