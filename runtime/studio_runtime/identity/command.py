"""``join`` on the command line of a role: the same words for agents and gateways."""

import argparse
import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

from studio.v1.identity_service_pb2 import Identity

from studio_runtime.errors import InvalidError
from studio_runtime.identity.folder import IdentityFolder
from studio_runtime.identity.join import Joining, join
from studio_runtime.identity.names import kind_word
from studio_runtime.settings import Address

DEFAULT_ADMIN_PORT = 7072

EXAMPLES = """\
examples:
  {program} join --coordinator control:7072 --fingerprint 3f9a… --token-file /run/join-token --state-dir {state}
  studio {noun} token | {program} join --coordinator control:7072 --ca-file ca.pem --token-file - --state-dir {state}

The token works once. The key is made here and stays here, readable to its owner alone; `{program}` finds the identity in the
state folder by itself and renews it before it runs out.
"""


def add_join_options(parser: argparse.ArgumentParser, folder: Callable[[str], Path] = Path) -> None:
    """The options of ``join``, but for the state folder, which each role has under its own name already."""
    add = parser.add_argument
    add(
        "--coordinator",
        type=parse_addresses,
        required=True,
        metavar="HOST:PORT[,…]",
        help=f"where it was given --admin-listen, by default port {DEFAULT_ADMIN_PORT}; one or more",
    )
    add("--token-file", required=True, metavar="FILE", help="holds the join token; - reads standard input")
    known_by = parser.add_mutually_exclusive_group(required=True)
    known_by.add_argument(
        "--fingerprint", default="", metavar="SHA256", help="of the authority, as told with the join token"
    )
    known_by.add_argument("--ca-file", type=folder, metavar="FILE", help="the authority's certificate, PEM")


def run_join(parsed: argparse.Namespace, kind: Identity.Kind.ValueType, name: str, folder: IdentityFolder) -> Identity:
    """Join as ``kind`` under ``name``, keep the identity in ``folder``, and say so. Raises StudioError."""
    joining = Joining(kind, name, parsed.coordinator, parsed.fingerprint, parsed.ca_file)
    stored, identity = asyncio.run(join(folder, joining, _token(parsed.token_file)))
    sys.stdout.write(
        f"joined as {kind_word(kind)} {identity.name} (id {identity.id}); "
        f"certificate until {stored.not_after:%Y-%m-%d %H:%M} UTC, renewed by itself\n"
    )
    return identity


def parse_addresses(text: str) -> list[Address]:
    """Read ``HOST:PORT[,HOST:PORT…]`` for argparse."""
    try:
        addresses = [Address.parse(part.strip(), DEFAULT_ADMIN_PORT) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if not addresses:
        raise argparse.ArgumentTypeError("it has to name at least one coordinator")
    return addresses


def _token(file: str) -> str:
    """The token's text. It is never an argument: those are readable to every user of the machine."""
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidError(
            f"the join token in {file} cannot be read: {error}", "Name the file that holds it."
        ) from None
