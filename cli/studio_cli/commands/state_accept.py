"""``studio state accept``: what an operator says after the database was restored from a backup."""

import sys
from typing import Annotated

import typer
from studio.v1.admin_service_pb2 import AcceptStateRequest, AcceptStateResponse
from studio_runtime.errors import SafetyError

from studio_cli.command import OutputOption, YesOption, command, noun
from studio_cli.coordinator import Coordinator
from studio_cli.output import Answer, Format, show_list
from studio_cli.views.accepted import accepted_table


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    state = noun(app, "state", "The database as the truth, after it was restored from a backup.")
    command(state, accept, "studio state accept --dry-run", "studio state accept --yes", name="accept")


async def accept(
    coordinator: Coordinator,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be stopped.")] = False,
    yes: YesOption = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Make hosts and gateways follow this database, though they have seen newer.

    What runs on a connected host and is unknown to this database is stopped. Until you say this, hosts and gateways go on with
    what they have.
    """
    if not dry_run and not yes:
        await _ask(coordinator)

    async def fetch() -> Answer:
        answer = await _accept(coordinator, dry_run=dry_run)
        return Answer(list(answer.hosts), accepted_table(list(answer.hosts)))

    await show_list(fetch, output)


async def _accept(coordinator: Coordinator, *, dry_run: bool) -> AcceptStateResponse:
    return await coordinator.call(
        coordinator.admin.AcceptState, AcceptStateRequest(dry_run=dry_run), "accept this state"
    )


async def _ask(coordinator: Coordinator) -> None:
    """Show what would be stopped and go on only when it is meant. Raises SafetyError."""
    if not sys.stdin.isatty():
        raise SafetyError(
            "a restored database is not accepted without being sure",
            "Say --dry-run to see what would be stopped, --yes to do it.",
        )
    for host in (await _accept(coordinator, dry_run=True)).hosts:
        typer.echo(f"{host.host}: stops {', '.join(host.unknown_replicas) or 'nothing'}")
    if not typer.confirm("Is this database the truth?"):
        raise SafetyError("nothing is changed")
