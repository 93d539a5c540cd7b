"""The listening socket and its clients: stopped by cancellation like everything else, and drained with a deadline."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Protocol, cast

from studio_runtime.settings import Address

from studio_gateway.account import Metrics
from studio_gateway.client import ClientConnection, Request
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


class Application(Protocol):
    """Who answers the requests."""

    @property
    def metrics(self) -> Metrics:
        """Where connections are counted."""

    def open(self, exchange: Exchange) -> Request:
        """The head of a request is here."""

    @property
    def is_idle(self) -> asyncio.Event:
        """Set whenever nothing runs."""

    def end_all(self) -> None:
        """End whatever runs."""


class Server:
    """What the connections of clients share."""

    def __init__(self, gateway: Application, deadlines: Deadlines, limits: Limits) -> None:
        self.deadlines = deadlines
        self.limits = limits
        self.is_closing = False
        # What is running when the server stops has this long to end.
        self.drain_seconds = limits.drain_seconds
        self._connections: set[ClientConnection] = set()
        self._is_empty = asyncio.Event()
        self._is_empty.set()
        # Those that have not asked anything yet.
        self._fresh: set[ClientConnection] = set()
        self._none_fresh = asyncio.Event()
        self._none_fresh.set()
        self._gateway = gateway
        # Names of requests: this process's own, and a number.
        self._name = os.urandom(10).hex()
        self._count = 0
        gateway.metrics.connections.set_function(lambda: len(self._connections))

    def welcome(self, connection: ClientConnection) -> None:
        """A client has connected."""
        self._connections.add(connection)
        self._is_empty.clear()
        self._fresh.add(connection)
        self._none_fresh.clear()
        self.deadlines.watch(connection)

    def has_asked(self, connection: ClientConnection) -> None:
        """The first request of a client has come."""
        self._fresh.discard(connection)
        if not self._fresh:
            self._none_fresh.set()

    def forget(self, connection: ClientConnection) -> None:
        """A client is gone."""
        self.has_asked(connection)
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
            lambda: cast("asyncio.Protocol", ClientConnection(self)), sock=sock, backlog=BACKLOG
        )
        try:
            await when_accepting()
            await asyncio.get_running_loop().create_future()
        finally:
            self.is_closing = True
            listener.close()
            for connection in self._connections - self._fresh:
                connection.close_if_idle()
            try:
                # Who was accepted a moment ago is about to ask, and would take a closed connection for a failure.
                await _within(LAST_BYTES_SECONDS, self._none_fresh)
                await _within(self.drain_seconds, self._gateway.is_idle)
            finally:
                self._gateway.end_all()
                await self._hang_up()

    async def _hang_up(self) -> None:
        """Give what has been answered the time to leave the sockets, then close them."""
        await _within(LAST_BYTES_SECONDS, self._is_empty)
        for connection in list(self._connections):
            connection.abort()


async def _within(seconds: float, event: asyncio.Event) -> None:
    """Wait for ``event``, but no longer."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
