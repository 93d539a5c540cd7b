"""A free port for an engine."""

import errno
import random
import socket
from collections.abc import Collection

from studio_agent.errors import NoFreePortError
from studio_agent.settings import PortRange


def choose_port(address: str, ports: PortRange, excluded: Collection[int]) -> int:
    """A port of the range that nobody listens on and that is not ``excluded``. Raises NoFreePortError.

    It begins anywhere: two agents on one machine that both began at the first would choose the same.
    """
    count = ports.last - ports.first + 1
    begin = random.randrange(count)  # noqa: S311 - spreads, and keeps no secret
    for step in range(count):
        port = ports.first + (begin + step) % count
        if port not in excluded and is_free(address, port):
            return port
    raise NoFreePortError(
        f"every port from {ports.first} to {ports.last} is taken on {address}",
        "Give the agent a wider range: --engine-ports FIRST-LAST.",
    )


def is_free(address: str, port: int) -> bool:
    """Whether a server could listen there now. Raises OSError for an address that is not this host's."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As servers do: closed connections that linger are no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
            probe.listen(1)
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
    return True
