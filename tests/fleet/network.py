"""A network of its own for test hosts: one bridge on this machine, and for each host a network namespace with one cable to it."""

import itertools
import json
import os
import random
import subprocess
from typing import Any, Self

PREFIX_BITS = 24
FIRST_HOST = 11


def ip(*arguments: str) -> str:
    """Run ``ip``; returns what it printed. Raises CalledProcessError."""
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout  # noqa: S607 - root's own PATH


class Cable:
    """One host's way to the others."""

    def __init__(self, namespace: str, link: str, address: str) -> None:
        self.namespace = namespace
        # Its end on this machine.
        self.link = link
        self.address = address

    def unplug(self) -> None:
        """A partition: nothing reaches the host and nothing leaves it."""
        ip("link", "set", self.link, "down")

    def plug(self) -> None:
        """The partition is over."""
        ip("link", "set", self.link, "up")


class Network:
    """``with Network() as network``: gone, with its namespaces, when the block is left.

    Its addresses are this machine's alone.
    """

    def __init__(self) -> None:
        # A link's name has at most 15 characters.
        self._mark = f"{os.getpid():x}{random.randrange(16**3):03x}"
        self.bridge = f"sfb{self._mark}"
        self._cables: list[Cable] = []
        self._numbers = itertools.count(FIRST_HOST)
        self._prefix = ""

    def __enter__(self) -> Self:
        taken = {route["dst"].rpartition(".")[0] for route in _routes()}
        self._prefix = next(
            prefix for n in iter(lambda: random.randrange(256), -1) if (prefix := f"10.213.{n}") not in taken
        )
        ip("link", "add", self.bridge, "type", "bridge")
        ip("address", "add", f"{self.gateway}/{PREFIX_BITS}", "dev", self.bridge)
        ip("link", "set", self.bridge, "up")
        return self

    def __exit__(self, *_: object) -> None:
        for cable in self._cables:
            ip("netns", "delete", cable.namespace)
        ip("link", "delete", self.bridge)

    @property
    def gateway(self) -> str:
        """This machine's own address among the hosts."""
        return f"{self._prefix}.1"

    def new_cable(self) -> Cable:
        """A namespace with ``eth0`` in it, an address and the bridge at the other end."""
        number = next(self._numbers)
        cable = Cable(f"sf{self._mark}-{number}", f"sfv{self._mark}{number:x}", f"{self._prefix}.{number}")
        ip("netns", "add", cable.namespace)
        self._cables.append(cable)
        ip("link", "add", cable.link, "type", "veth", "peer", "name", "eth0", "netns", cable.namespace)
        ip("link", "set", cable.link, "master", self.bridge, "up")
        inside = ("-n", cable.namespace)
        ip(*inside, "address", "add", f"{cable.address}/{PREFIX_BITS}", "dev", "eth0")
        for link in ("lo", "eth0"):
            ip(*inside, "link", "set", link, "up")
        ip(*inside, "route", "add", "default", "via", self.gateway)
        return cable


def _routes() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(ip("-json", "-4", "route", "show", "table", "all"))
    return found
