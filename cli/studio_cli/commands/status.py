"""``studio status`` and ``studio version``."""

import sys
from datetime import UTC, datetime
from importlib.metadata import version as installed_version

import typer
from studio.v1.admin_service_pb2 import GetStatusRequest

from studio_cli.command import OutputOption, command, epilog
from studio_cli.coordinator import Coordinator
from studio_cli.output import Format, write_item
from studio_cli.views.status import status_lines


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    command(app, status, "studio status", "studio status -o json", "studio status --coordinator 10.0.0.5:7070")
    app.command(epilog=epilog(("studio version",)))(version)


async def status(coordinator: Coordinator, output: OutputOption = Format.TABLE) -> None:
    """Show the coordinator, who leads, and the gateways."""
    answer = await coordinator.call(coordinator.admin.GetStatus, GetStatusRequest(), "ask for the status")
    write_item(answer, lambda: list(status_lines(answer, coordinator.address, datetime.now(UTC))), output)


def version() -> None:
    """Show the version of this program."""
    sys.stdout.write(f"studio {installed_version('vllm-studio')}\n")
