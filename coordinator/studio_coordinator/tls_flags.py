"""The command line of a coordinator that serves with TLS, and the rule that one without it stays on loopback."""

import argparse
import ipaddress
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from studio_runtime.errors import SafetyError
from studio_runtime.settings import Address

DEFAULT_ADMIN_PORT = 7072
DAY_SECONDS = 86_400.0
WILDCARDS = frozenset({"0.0.0.0", "::"})


@dataclass(frozen=True)
class TlsFlags:
    """What ``serve`` was told of TLS."""

    admin_listen: Address
    # Names and IP addresses that this coordinator is dialled as.
    names: tuple[str, ...]
    ca_cert: Path | None
    ca_key: Path | None
    certificate_seconds: float
    renew_grace_seconds: float


def add_tls_options(serve: argparse.ArgumentParser) -> None:
    """The options of ``serve`` that are about TLS."""
    add = serve.add_argument_group("TLS (docs/identities.md)").add_argument
    add(
        "--tls",
        action="store_true",
        help="serve nodes on --listen, which then requires their certificates, and operators on --admin-listen",
    )
    add(
        "--admin-listen",
        type=Address.parse,
        metavar="HOST:PORT",
        help=f"for operators, and for nodes that join or renew (default: port {DEFAULT_ADMIN_PORT} beside --listen)",
    )
    add(
        "--tls-name",
        action="append",
        default=[],
        metavar="NAME",
        help="another name or IP address that this coordinator is dialled as; may be repeated",
    )
    add(
        "--ca-cert", type=Path, metavar="FILE", help="an authority of your own that signs, PEM, those above it below it"
    )
    add("--ca-key", type=Path, metavar="FILE", help="its private key, PEM; it is sealed and kept in the database")
    add("--certificate-seconds", type=float, default=DAY_SECONDS, help="how long certificates count (default: a day)")
    add(
        "--renew-grace-seconds",
        type=float,
        default=30 * DAY_SECONDS,
        help="how long after its end a certificate may still be renewed (default: 30 days)",
    )
    add(
        "--insecure-listen",
        action="store_true",
        help="serve in clear text beyond loopback, without --tls: whoever reaches the port may say that it is any host",
    )


def tls_flags(arguments: argparse.Namespace) -> TlsFlags | None:
    """What was told of TLS; None: serve in clear text. Raises SafetyError where that would be beyond loopback."""
    if not arguments.tls:
        if arguments.insecure_listen or is_loopback(arguments.listen.host):
            return None
        raise SafetyError(
            f"{arguments.listen} is beyond loopback: without TLS whoever reaches it may say that it is any host",
            "Serve with --tls; or, on a network that is yours alone, with --insecure-listen.",
        )
    if (arguments.ca_cert is None) != (arguments.ca_key is None):
        raise SafetyError("--ca-cert and --ca-key go together", "Name both, or neither for an authority of our own.")
    return TlsFlags(
        admin_listen=arguments.admin_listen or Address(arguments.listen.host, DEFAULT_ADMIN_PORT),
        names=tuple(sorted(set(_names(arguments)))),
        ca_cert=arguments.ca_cert,
        ca_key=arguments.ca_key,
        certificate_seconds=arguments.certificate_seconds,
        renew_grace_seconds=arguments.renew_grace_seconds,
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches ``host``; a name counts as what it is known for."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _names(arguments: argparse.Namespace) -> Iterator[str]:
    yield from ("localhost", "127.0.0.1", "::1", socket.gethostname(), *arguments.tls_name)
    for address in (arguments.listen, arguments.admin_listen, arguments.advertise):
        if address is not None and address.host not in WILDCARDS:
            yield address.host
