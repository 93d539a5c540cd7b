"""``studio authority``."""

import sys
from datetime import UTC, datetime
from typing import Annotated

import typer
from studio.v1.access_service_pb2 import GetAuthorityRequest, RotateAuthorityRequest

from studio_cli.command import OutputOption, YesOption, command
from studio_cli.confirm import confirm
from studio_cli.coordinator import Coordinator
from studio_cli.output import Answer, Format, show_list, write_answer
from studio_cli.report import Report
from studio_cli.views.identities import authority_table


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    authority = typer.Typer(
        name="authority", help="Who signs the certificates of nodes.", no_args_is_help=True, rich_markup_mode=None
    )
    app.add_typer(authority)
    command(authority, show, "studio authority show", "studio authority show --pem > ca.pem", name="show")
    command(authority, rotate, "studio authority rotate", "studio authority rotate --force --yes", name="rotate")


async def show(
    coordinator: Coordinator,
    pem: Annotated[bool, typer.Option("--pem", help="Write their certificates: the CA file of consoles.")] = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Tell who signs certificates and who is trusted; the fingerprint is what a joining node is told."""

    async def fetch() -> Answer:
        answer = await coordinator.call(coordinator.access.GetAuthority, GetAuthorityRequest(), "show the authority")
        return Answer(list(answer.authorities), authority_table(answer.authorities, datetime.now(UTC)))

    if pem:
        answer = await coordinator.call(coordinator.access.GetAuthority, GetAuthorityRequest(), "show the authority")
        sys.stdout.write("".join(authority.certificate.decode() for authority in answer.authorities))
        return
    await show_list(fetch, output)


async def rotate(
    coordinator: Coordinator,
    force: Annotated[bool, typer.Option("--force", help="Cut off nodes that are not ready for the step.")] = False,
    yes: YesOption = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Take one step from the present authority to a new one.

    Three steps: the new one is trusted, then signs, then the old one goes. A step that would cut off a node is refused and says
    which.
    Connected nodes renew by themselves; no stream and no engine is touched.
    """
    if force:
        confirm("authority", "rotate", "nodes that are not ready must join again", yes=yes)
    request = RotateAuthorityRequest(force=force)
    answer = await coordinator.call(coordinator.access.RotateAuthority, request, "rotate the authority")
    write_answer(Answer(list(answer.authorities), authority_table(answer.authorities, datetime.now(UTC))), output)
    Report.on_standard_error().line(answer.message)
