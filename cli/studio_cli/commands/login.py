"""``studio login``: keep a coordinator's address, its authority and a token under a name."""

import asyncio
import getpass
import sys
from pathlib import Path
from typing import Annotated

import typer
from studio.v1.access_service_pb2 import GetCallerRequest, GetCallerResponse
from studio_runtime.bearer import Bearer
from studio_runtime.errors import InvalidError
from studio_runtime.process import write_atomically
from studio_runtime.settings import Address
from studio_runtime.tls import ClientTls

from studio_cli.addresses import configuration_file, parse_addresses, read_configuration
from studio_cli.command import epilog
from studio_cli.contexts import with_context, write_configuration
from studio_cli.coordinator import connect
from studio_cli.report import Report
from studio_cli.views.access import caller_line

EXAMPLES = (
    "studio login lab --coordinator 10.0.0.5:7072 --ca-file lab-ca.pem                # asks for the token",
    "studio login ci --coordinator control1:7072,control2:7072 --ca-file ca.pem --token-file ci.token",
)


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("login", epilog=epilog(EXAMPLES))(login)


def login(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the context is called.")],
    *,
    coordinator: Annotated[str, typer.Option(metavar="HOST:PORT[,…]", help="Where it serves operators.")],
    ca_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Its authority (PEM): studio authority show --pem.")
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where the token is and stays. Default: it is asked for, or standard input."),
    ] = None,
) -> None:
    """Try a token, and keep it with the coordinator's address as the default context."""
    addresses = parse_addresses(coordinator)
    tls = None if ca_file is None else ClientTls.trusting(ca_file)
    folder = configuration_file().parent
    kept = token_file.resolve() if token_file is not None else folder / f"{name}.token"
    context = {
        "coordinator": coordinator,
        "ca_file": "" if ca_file is None else str(ca_file.resolve()),
        "token_file": str(kept),
    }
    configuration = with_context(read_configuration(configuration_file()), name, context)
    if token_file is None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomically(kept, read_token().encode())
    caller = asyncio.run(_caller(addresses, tls, Bearer(kept)))
    write_configuration(configuration_file(), configuration)
    Report.on_standard_output().line(f"you are {caller_line(caller)}; the default context is now {name}")


def read_token() -> str:
    """A token from the terminal or standard input. Raises InvalidError."""
    text = getpass.getpass("token: ") if sys.stdin.isatty() else sys.stdin.read()
    if not text.strip():
        raise InvalidError("the token is empty")
    return text.strip()


async def _caller(addresses: list[Address], tls: ClientTls | None, bearer: Bearer) -> GetCallerResponse:
    async with connect(addresses, tls, bearer) as connection:
        return await connection.call(connection.access.GetCaller, GetCallerRequest(), "log in")
