"""``studio secrets``: values that recipes and providers name, and nobody sees again."""

import getpass
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from studio.v1.access_service_pb2 import ListSecretsRequest, PutSecretRequest, RemoveSecretRequest
from studio_runtime.errors import InvalidError

from studio_cli.command import OutputOption, command, noun
from studio_cli.completion import completed_by
from studio_cli.coordinator import Coordinator
from studio_cli.output import Answer, Format, show_list
from studio_cli.report import Report
from studio_cli.views.access import secret_table


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    secrets = noun(app, "secrets", "Tokens and keys that recipes and providers name.")
    command(secrets, list_secrets, "studio secrets", "studio secrets -o json", name="list")
    command(
        secrets,
        put_secret,
        "studio secrets put hub                       # asks for the value",
        "studio secrets put openai --file key.txt",
        "pass show openai | studio secrets put openai",
        name="put",
    )
    command(secrets, remove_secret, "studio secrets remove hub", name="remove")


async def list_secrets(coordinator: Coordinator, output: OutputOption = Format.TABLE) -> None:
    """List the secrets, never their values."""

    async def fetch() -> Answer:
        answer = await coordinator.call(coordinator.access.ListSecrets, ListSecretsRequest(), "list the secrets")
        return Answer(list(answer.secrets), secret_table(answer.secrets, datetime.now(UTC)))

    await show_list(fetch, output)


async def put_secret(
    coordinator: Coordinator,
    name: Annotated[str, typer.Argument(metavar="NAME")],
    file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where the value is. Default: it is asked for, or standard input."),
    ] = None,
    tenant: Annotated[str, typer.Option(help="Whose it is. Default: the whole fleet's.")] = "",
) -> None:
    """Store a value, or another one for a name that is there.

    Engines that run go on with the old value until they start anew.
    """
    request = PutSecretRequest(name=name, value=read_value(name, file), tenant=tenant)
    await coordinator.call(coordinator.access.PutSecret, request, f"store the secret {name}")
    Report.on_standard_output().line(f"secret {name} stored")


async def secret_names(coordinator: Coordinator) -> list[str]:
    """Names of secrets."""
    answer = await coordinator.call(coordinator.access.ListSecrets, ListSecretsRequest(), "complete a name")
    return [one.name for one in answer.secrets]


async def remove_secret(
    coordinator: Coordinator,
    name: Annotated[str, typer.Argument(metavar="NAME", autocompletion=completed_by(secret_names))],
    force: Annotated[bool, typer.Option("--force", help="Although recipes or providers name it.")] = False,
) -> None:
    """Forget a secret."""
    request = RemoveSecretRequest(name=name, force=force)
    await coordinator.call(coordinator.access.RemoveSecret, request, f"remove the secret {name}")
    Report.on_standard_output().line(f"secret {name} removed")


def read_value(name: str, file: Path | None) -> str:
    """The value from ``file``, the terminal or standard input, without the newline at its end. Raises InvalidError.

    Never from the command line: everybody on the machine can read that.
    """
    try:
        if file is not None:
            text = file.read_text(encoding="utf-8")
        elif sys.stdin.isatty():
            text = getpass.getpass(f"value of {name}: ")
        else:
            text = sys.stdin.read()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidError(f"the value of {name} cannot be read: {error}") from None
    value = text.removesuffix("\n").removesuffix("\r")
    if not value:
        raise InvalidError(f"the value of {name} is empty")
    return value
