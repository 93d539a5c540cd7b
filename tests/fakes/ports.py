"""Ports for processes under test that nobody else on this machine gets in between.

A port that the kernel chose and that was closed again may be the source of somebody's next connection. So these lie
below the kernel's own range (and below the agents' range for engines), and each is kept by its process for as long as
that lives: by a name in the abstract socket namespace, which only one can bind and which goes with its process.
"""

import random
import socket

FIRST, LAST = 10_000, 19_999

_kept: dict[int, socket.socket] = {}


def free_port() -> int:
    """A loopback port that nobody listens on and that no other test process is given.

    Raises:
        RuntimeError: every port of the range is taken.
    """
    for port in random.sample(range(FIRST, LAST + 1), LAST + 1 - FIRST):
        if port not in _kept and _keep(port):
            return port
    raise RuntimeError(f"no free port between {FIRST} and {LAST}")


def _keep(port: int) -> bool:
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        claim.bind(f"\0studio-test-port-{port}")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
    except OSError:
        claim.close()
        return False
    _kept[port] = claim
    return True
