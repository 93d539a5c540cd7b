"""The options of ``join``, for the command lines of agents and gateways; it imports next to nothing, as ``--help`` asks."""

import argparse
from collections.abc import Callable
from pathlib import Path

from studio_runtime.settings import Address

DEFAULT_ADMIN_PORT = 7072

JOIN_EXAMPLES = """\
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


def parse_addresses(text: str) -> list[Address]:
    """Read ``HOST:PORT[,HOST:PORT…]`` for argparse."""
    try:
        addresses = [Address.parse(part.strip(), DEFAULT_ADMIN_PORT) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if not addresses:
        raise argparse.ArgumentTypeError("it has to name at least one coordinator")
    return addresses
