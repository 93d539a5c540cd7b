"""``studio gateways export``: what other software needs to be told to reach the fleet through the gateway."""

import json
import re
import sys
from typing import Annotated
from urllib.parse import urlsplit

import typer
from studio_runtime.errors import InvalidError
from studio_runtime.settings import DEFAULT_GATEWAY_PORT

from studio_cli.command import OutputOption, epilog
from studio_cli.litellm_entry import litellm_config, litellm_entry
from studio_cli.output import Format

EXAMPLES = (
    "studio gateways export --litellm --gateway-url http://gateway:4000 > fleet.yaml",
    "studio gateways export --litellm --gateway-url https://llm.example.org --prefix lab --key-env LAB_KEY",
)
PREFIX = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def register(group: typer.Typer) -> None:
    """Add the command to ``group``."""
    group.command("export", epilog=epilog(EXAMPLES))(export)


def export(
    *,
    litellm: Annotated[bool, typer.Option("--litellm", help="An entry for a LiteLLM proxy's configuration.")] = False,
    gateway_url: Annotated[
        str, typer.Option(metavar="URL", help="Where the proxy reaches the gateway.")
    ] = f"http://127.0.0.1:{DEFAULT_GATEWAY_PORT}",
    prefix: Annotated[
        str, typer.Option(metavar="NAME", help="The fleet's models are called NAME/… at the proxy.")
    ] = "fleet",
    key_env: Annotated[
        str, typer.Option(metavar="VARIABLE", help="The proxy's environment variable that has a key of the fleet.")
    ] = "STUDIO_API_KEY",
    output: OutputOption = Format.YAML,
) -> None:
    """Write what other software needs to reach the fleet. It asks nobody: every model of the fleet is reached by one entry."""
    if not litellm:
        raise InvalidError("Nothing was named to write an entry for.", "Name it: --litellm.")
    url = urlsplit(gateway_url)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise InvalidError(f"{gateway_url!r} is no address of a gateway.", "Write it as http://HOST:PORT.")
    if not PREFIX.fullmatch(prefix):
        raise InvalidError(f"{prefix!r} cannot be a prefix.", "Use letters, digits, dots, dashes and underscores.")
    if not VARIABLE.fullmatch(key_env):
        raise InvalidError(f"{key_env!r} is no name of an environment variable.", "Name one, as in --key-env LAB_KEY.")
    if output is Format.JSON:
        document = litellm_config(gateway_url, prefix=prefix, key_variable=key_env)
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
        return
    sys.stdout.write(litellm_entry(gateway_url, prefix=prefix, key_variable=key_env))
