"""The listening socket and its clients: stopped by cancellation like everything else, and drained with a deadline."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable, Callable

from studio_runtime.settings import Address

from studio_gateway.app import Gateway, Request
from studio_gateway.client import ClientConnection
from studio_gateway.deadlines import Deadlines
from studio_gateway.exchange import Exchange
from studio_gateway.limits import Limits

BACKLOG = 2048
LAST_BYTES_SECONDS = 1.0


def listen(address: Address) -> socket.socket:
    """A socket that is bound to ``address``; raises OSError."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address.host, address.port))
    except BaseException:
        sock.close()
        raise
    return sock


class Server:
    """What the connections of clients share."""

    def __init__(self, gateway: Gateway, deadlines: Deadlines, limits: Limits) -> None:
        self.deadlines = deadlines
        self.limits = limits
        self.is_closing = False
        # What is running when the server stops has this long to end.
        self.drain_seconds = limits.drain_seconds
        self._connections: set[ClientConnection] = set()
        self._is_empty = asyncio.Event()
        self._is_empty.set()
        self._gateway = gateway
        # Names of requests: this process's own, and a number.
        self._name = os.urandom(10).hex()
        self._count = 0
        gateway.metrics.connections.set_function(lambda: len(self._connections))

    def welcome(self, connection: ClientConnection) -> None:
        """A client has connected."""
        self._connections.add(connection)
        self._is_empty.clear()
        self.deadlines.watch(connection)

    def forget(self, connection: ClientConnection) -> None:
        """A client is gone."""
        self.deadlines.forget(connection)
        self._connections.discard(connection)
        if not self._connections:
            self._is_empty.set()

    def next_id(self) -> str:
        """A name for a request, never the same again."""
        self._count += 1
        return f"req-{self._name}-{self._count:x}"

    def open(self, exchange: Exchange) -> Request:
        """The head of a request has come."""
        return self._gateway.open(exchange)

    async def serve(self, sock: socket.socket, when_accepting: Callable[[], Awaitable[None]]) -> None:
        """Serve on ``sock`` until cancelled; then accept nothing new, drain, and return to the cancellation."""
        listener = await asyncio.get_running_loop().create_server(
            lambda: ClientConnection(self), sock=sock, backlog=BACKLOG
        )
        try:
            await when_accepting()
            await asyncio.get_running_loop().create_future()
        finally:
            self.is_closing = True
            listener.close()
            for connection in list(self._connections):
                connection.close_if_idle()
            try:
                await self._gateway.drain(self.drain_seconds)
            finally:
                await self._hang_up()

    async def _hang_up(self) -> None:
        """Give what has been answered the time to leave the sockets, then close them."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_BYTES_SECONDS):
                await self._is_empty.wait()
        for connection in list(self._connections):
            connection.abort()
