"""uvicorn as a part of our process: stopped by cancellation like everything else, and drained with a deadline."""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Iterator

import uvicorn
from studio_runtime.settings import Address

from studio_gateway.app import Gateway

# Longer than clients keep an idle connection, so that it is they who close it.
KEEP_ALIVE_SECONDS = 75
BACKLOG = 2048
LAST_BYTES_SECONDS = 1.0


class Server(uvicorn.Server):
    """Leaves signals to the process, and says when it accepts connections."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_accepting = asyncio.Event()
        self.is_closing = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Nothing: cancellation is the only way to stop."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        await super().startup(sockets)
        self.is_accepting.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting, and say so: whoever waits for it goes on after the listeners are closed."""
        self.is_closing.set()
        await super().shutdown(sockets)


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


async def serve(gateway: Gateway, sock: socket.socket, when_accepting: Callable[[], Awaitable[None]]) -> None:
    """Serve ``gateway`` on ``sock`` until cancelled; then accept nothing new, drain, and return to the cancellation."""
    config = uvicorn.Config(
        gateway,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        # The application logs what goes wrong; an answer left incomplete on purpose is no news.
        log_level="critical",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        backlog=BACKLOG,
    )
    server = Server(config)
    serving = asyncio.create_task(server.serve([sock]))
    serving.add_done_callback(lambda _: server.is_closing.set())
    try:
        await server.is_accepting.wait()
        await when_accepting()
        await asyncio.shield(serving)
    finally:
        server.should_exit = True
        await server.is_closing.wait()
        await gateway.drain()
        # What has been answered still has to leave the sockets.
        await asyncio.wait({serving}, timeout=LAST_BYTES_SECONDS)
        server.force_exit = True
        await serving
