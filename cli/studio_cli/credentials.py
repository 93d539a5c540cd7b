"""Which token goes with a command's calls.

In this order: the file that ``STUDIO_TOKEN_FILE`` names; the ``token_file`` of the context that named the coordinator; for the
``studio up`` of this ``STUDIO_HOME`` its local token. A token goes nowhere but to the coordinator that it is for, and never in
clear text beyond this machine.
"""

import ipaddress
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from studio_runtime.bearer import Bearer
from studio_runtime.errors import InvalidError
from studio_runtime.settings import Address, Home
from studio_runtime.tls import ClientTls

from studio_cli.addresses import configuration_file, context_in_force, parse_addresses, read_configuration, running_here

LOOPBACK_NAMES = ("localhost",)


def bearer_for(flag: str, context: str, addresses: Sequence[Address]) -> Bearer:
    """The token for ``addresses``, which ``flag`` and ``context`` were resolved to."""
    if named := os.environ.get("STUDIO_TOKEN_FILE"):
        return Bearer(Path(named).expanduser())
    home = Home.from_environment()
    here = running_here(home)
    if here and list(addresses) == parse_addresses(here):
        return local_bearer(home)
    file = token_file_of(context_in_force(flag, context), read_configuration(configuration_file()))
    return Bearer(Path(file).expanduser()) if file else Bearer()


def local_bearer(home: Home) -> Bearer:
    """The local token of the installation in ``home``; none where its coordinator has made none."""
    return Bearer(home.local_token if home.local_token.exists() else None)


def token_file_of(name: str, configuration: Mapping[str, Any]) -> str:
    """The token file of the context; empty where it names none."""
    contexts = configuration.get("contexts", {})
    context = contexts.get(name, {}) if isinstance(contexts, Mapping) else {}
    return str(context.get("token_file", "")) if isinstance(context, Mapping) else ""


def check_channel(bearer: Bearer, tls: ClientTls | None, address: Address) -> None:
    """Raise InvalidError where the token would cross the network in clear text."""
    if bearer.file is not None and tls is None and not is_loopback(address.host):
        raise InvalidError(
            f"a token is not sent in clear text to {address}",
            "Name the coordinator's authority with STUDIO_CA_FILE, or with ca_file in the context.",
        )


def is_loopback(host: str) -> bool:
    """Whether ``host`` is this machine by its very name."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in LOOPBACK_NAMES
