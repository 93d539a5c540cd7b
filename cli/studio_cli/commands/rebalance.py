"""``studio rebalance``."""

import sys
from typing import Annotated

import typer
from studio.v1.admin_service_pb2 import RebalanceRequest
from studio_runtime.errors import SafetyError

from studio_cli.command import OutputOption, YesOption, command
from studio_cli.coordinator import Coordinator
from studio_cli.output import Answer, Format, show_list
from studio_cli.views.plan import move_table


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    command(app, rebalance, "studio rebalance --dry-run", "studio rebalance --yes")


async def rebalance(
    coordinator: Coordinator,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only propose.")] = False,
    yes: YesOption = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Move replicas so that whole hosts become free, or replicas of one model are on hosts of their own.

    Each replacement serves before the old replica drains; a replacement that fails leaves the old one serving.
    """
    if not dry_run and not yes:
        await _ask(coordinator)

    async def fetch() -> Answer:
        request = RebalanceRequest(dry_run=dry_run)
        answer = await coordinator.call(coordinator.admin.Rebalance, request, "rebalance")
        return Answer(list(answer.moves), move_table(list(answer.moves)))

    await show_list(fetch, output)


async def _ask(coordinator: Coordinator) -> None:
    """Show the moves and go on only when they are wanted. Raises SafetyError."""
    proposed = await coordinator.call(
        coordinator.admin.Rebalance, RebalanceRequest(dry_run=True), "look for moves worth while"
    )
    if not proposed.moves:
        return
    if not sys.stdin.isatty():
        raise SafetyError(
            "replicas are not moved without being sure", "Say --dry-run to see the moves, --yes to do them."
        )
    for move in proposed.moves:
        typer.echo(f"{move.replica_id}: {move.from_host} to {move.to_host} ({move.reason})")
    if not typer.confirm("Move them?"):
        raise SafetyError("nothing is moved")
