"""A provider's name is judged in the look-up that its connection is made with: another one, a moment later, may say otherwise.

The two libraries that connect for LiteLLM look names up in one place each. There the name of the provider that is being asked
is judged; other names, such as those of callbacks, and addresses, which cannot change, are not.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from studio_gateway.provider_address import is_public

MARK = "_studio_judges_names"
# The host that is asked in this context and has to be outside; "" where there is none.
GUARDED: ContextVar[str] = ContextVar("studio_guarded_host", default="")


class NameInsideError(OSError):
    """The name of a provider, judged to be outside, leads inside by now."""


@contextmanager
def outside_only(host: str) -> Iterator[None]:
    """For the length of a block connections to ``host`` are made to public addresses alone; "" is no host."""
    before = GUARDED.set(host)
    try:
        yield
    finally:
        GUARDED.reset(before)


def judge_names(connector: Any, anyio: Any) -> None:
    """From now on look-ups are judged in the modules ``aiohttp.connector`` and ``anyio``."""
    if getattr(connector, MARK, False):
        return
    setattr(connector, MARK, True)
    connect = anyio.connect_tcp

    class Resolver(connector.DefaultResolver):  # type: ignore[misc] # whichever this installation has
        """Judges what it has found."""

        async def resolve(self, host: str, *arguments: Any, **options: Any) -> Any:
            """As the one below it. Raises NameInsideError."""
            found = await super().resolve(host, *arguments, **options)
            _judge(host, [one["host"] for one in found])
            return found

    async def connect_tcp(remote_host: str, remote_port: int, **options: Any) -> Any:
        """As anyio does, to one of the addresses that were judged. Raises OSError, NameInsideError among them."""
        if str(remote_host) != GUARDED.get():
            return await connect(remote_host, remote_port, **options)
        found = await asyncio.get_running_loop().getaddrinfo(remote_host, remote_port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(one[4][0]) for one in found))
        _judge(remote_host, addresses)
        failure: OSError = OSError(f"{remote_host} has no address")
        for address in addresses:
            try:
                return await connect(address, remote_port, **options)
            except OSError as error:
                failure = error
        raise failure

    connector.DefaultResolver, anyio.connect_tcp = Resolver, connect_tcp


def led_inside(error: BaseException) -> bool:
    """Whether a name that leads inside is what ``error`` comes from."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, NameInsideError):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def _judge(host: str, addresses: Iterable[str]) -> None:
    if host == GUARDED.get() and not all(is_public(ipaddress.ip_address(one.partition("%")[0])) for one in addresses):
        raise NameInsideError(f"{host} leads inside")
