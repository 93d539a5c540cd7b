"""One connection of a client: requests are read off it, one at a time, each within its deadlines.

::

    ┌────────────────────────────────────────────────────────────┐
    ▼                                                            │ answer ended
    IDLE ──first byte──► HEAD ──head whole──► BODY ──body whole──► ANSWERING
     │                    │                    │                   │
     │ too long           │ malformed,         │ malformed, too    │ answer ended, and it is the last
     ▼                    ▼ too large, late    ▼ large, late       ▼
    closed              LEAVING: the last words are sent, what still comes is dropped; closed soon after

A client that closes its connection, or its half of it, does not want its answer any more.
"""

import asyncio
import enum
from typing import Protocol, cast

from studio_gateway.chunks import ChunkedBody, FramingError
from studio_gateway.deadlines import NEVER, Deadlines
from studio_gateway.exchange import Client, Exchange
from studio_gateway.http1 import HEAD_END, LARGEST_HEAD_BYTES, RequestHead, read_request
from studio_gateway.limits import Limits
from studio_gateway.openai_errors import (
    ApiError,
    body_timeout,
    body_too_large,
    head_timeout,
    head_too_large,
    malformed_request,
)

# What a client sends ahead while it is being answered; more than this is not waited for.
LARGEST_EARLY_BYTES = 256 * 1024
# Above this the engine's answer is held back until the client has read.
WRITE_BUFFER_BYTES = 64 * 1024
# For the last bytes of an answer to be read, and for a client that still sends to notice that it is refused.
LAST_BYTES_SECONDS = 30.0
LINGER_SECONDS = 1.0
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class State(enum.Enum):
    """What the connection waits for."""

    IDLE = enum.auto()
    HEAD = enum.auto()
    BODY = enum.auto()
    ANSWERING = enum.auto()
    LEAVING = enum.auto()


class Request(Protocol):
    """What the application makes of an exchange."""

    def take_body(self, body: bytes) -> None:
        """The body is whole: answer."""

    def abandon(self, error: ApiError | None) -> None:
        """Stop: with ``error``, or because the client is gone."""

    def pause(self) -> None:
        """The client reads more slowly than its answer comes."""

    def resume(self) -> None:
        """The client has caught up."""


class House(Protocol):
    """What the connections of one server share."""

    limits: Limits
    deadlines: Deadlines
    is_closing: bool

    def welcome(self, connection: "ClientConnection") -> None:
        """A client has connected."""

    def has_asked(self, connection: "ClientConnection") -> None:
        """Its first request has come."""

    def forget(self, connection: "ClientConnection") -> None:
        """A client is gone."""

    def next_id(self) -> str:
        """A name for a request, never the same again."""

    def open(self, exchange: Exchange) -> Request:
        """The head of a request has come; its answer may be given at once."""


def _into_the_void(_data: bytes) -> None:
    """What a client that is gone would have got."""


class ClientConnection(Client):
    """See the picture above. An ``asyncio.Protocol`` in all but name: compiled classes inherit from compiled ones only."""

    __slots__ = (
        "_body_deadline",
        "_chunked",
        "_early",
        "_has_asked",
        "_held",
        "_house",
        "_is_full",
        "_is_last",
        "_is_reading",
        "_missing",
        "_parts",
        "_request",
        "_size",
        "_state",
        "_transport",
        "deadline",
    )

    def __init__(self, house: House) -> None:
        self._house = house
        self._state = State.IDLE
        self._held = b""
        self._early = b""
        self._parts: list[bytes] = []
        self._size = 0
        self._missing = 0
        self._chunked: ChunkedBody | None = None
        self._body_deadline = NEVER
        self._request: Request | None = None
        # More waits for the client than it should: no further request of it is begun.
        self._is_full = False
        self._is_last = False
        self._has_asked = False
        self._is_reading = False
        self.deadline = NEVER
        self.write = _into_the_void

    # What the transport tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has come."""
        self._transport = cast("asyncio.Transport", transport)
        self.write = self._transport.write
        self._transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        self.deadline = self._in(self._house.limits.head_seconds)
        self._house.welcome(self)

    def data_received(self, data: bytes) -> None:
        """Take what has come, in every state."""
        if self._state is State.LEAVING:
            return
        if self._state is State.ANSWERING or (self._is_full and self._state is State.IDLE):
            if len(self._early) + len(data) > LARGEST_EARLY_BYTES:
                self._early, self._is_last = b"", True
            elif not self._is_last:
                self._early += data
            return
        self._read(data)

    def eof_received(self) -> bool:
        """The client sends no more: let the connection be closed."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        del exc
        self.write = _into_the_void
        self._state = State.LEAVING
        self._house.forget(self)
        request, self._request = self._request, None
        if request is not None:
            request.abandon(None)

    def pause_writing(self) -> None:
        """Too much waits for the client."""
        self._is_full = True
        if self._request is not None:
            self._request.pause()

    def resume_writing(self) -> None:
        """The client has read."""
        self._is_full = False
        if self._request is not None:
            self._request.resume()
        elif self._state is State.IDLE:
            self._read_early()

    # What the exchange does.

    def will_close(self) -> bool:
        """Whether the present answer is the last: asked for, or half of a body has not come yet, or the server stops."""
        return self._is_last or self._state is not State.ANSWERING or self._house.is_closing

    def answered(self, *, can_go_on: bool) -> None:
        """The present answer has ended."""
        self._request = None
        if self._state is State.BODY:
            self._leave(LINGER_SECONDS)
        elif self._state is State.ANSWERING:
            if not can_go_on or self.will_close():
                self._leave(LAST_BYTES_SECONDS)
                return
            self._state, self.deadline = State.IDLE, self._in(self._house.limits.keep_alive_seconds)
            self._read_early()

    # What the server and the clock do.

    def close_if_idle(self) -> None:
        """The server stops: a connection without a request is of no more use."""
        if self._state is State.IDLE:
            self._leave(LINGER_SECONDS)

    def abort(self) -> None:
        """Close without sending what still waits."""
        self._transport.abort()

    def expired(self) -> None:
        """Something did not come in time."""
        self.deadline = NEVER
        limits = self._house.limits
        if self._state is State.BODY and self._request is not None:
            self._request.abandon(body_timeout(limits.body_idle_seconds))
        elif self._state is State.HEAD:
            self._refuse(head_timeout(limits.head_seconds))
        else:
            self._transport.abort()

    # Reading.

    def _read_early(self) -> None:
        """Go on with what came ahead of its turn, if it is its turn."""
        if self._early and not self._is_reading and not self._is_full:
            early, self._early = self._early, b""
            self._read(early)

    def _read(self, data: bytes) -> None:
        """Read requests for as long as there are bytes and nothing is being answered."""
        self._is_reading = True
        try:
            while data:
                data = self._read_body(data) if self._state is State.BODY else self._read_head(data)
                if self._state is State.ANSWERING or (self._is_full and self._state is State.IDLE):
                    self._early = data
                    return
                if self._state is State.LEAVING:
                    return
        except FramingError as error:
            self._refuse(malformed_request(str(error)))
        finally:
            self._is_reading = False

    def _read_head(self, data: bytes) -> bytes:
        """Take a head; returns what stands behind it."""
        if self._held:
            data, self._held = self._held + data, b""
        end = data.find(HEAD_END) + len(HEAD_END)
        if end < len(HEAD_END) or end > LARGEST_HEAD_BYTES:
            if len(data) > LARGEST_HEAD_BYTES:
                self._refuse(head_too_large(LARGEST_HEAD_BYTES))
                return b""
            self._held = data
            if self._state is State.IDLE:
                self._state, self.deadline = State.HEAD, self._in(self._house.limits.head_seconds)
            return b""
        return self._open(read_request(data[:end]), data[end:])

    def _open(self, head: RequestHead, data: bytes) -> bytes:
        if not self._has_asked:
            self._has_asked = True
            self._house.has_asked(self)
        exchange = Exchange(head, self, self._house.next_id())
        self._parts, self._size = [], 0
        self._missing = head.length or 0
        self._chunked = ChunkedBody() if head.length is None else None
        self._state = State.ANSWERING if head.length == 0 else State.BODY
        limits = self._house.limits
        self._body_deadline = self._in(limits.body_seconds)
        self.deadline = NEVER if head.length == 0 else min(self._in(limits.body_idle_seconds), self._body_deadline)
        request = self._house.open(exchange)
        if exchange.is_ended:
            return data
        self._request = request
        if self._missing > limits.body_bytes:
            request.abandon(body_too_large(limits.body_bytes))
        elif self._state is State.ANSWERING:
            request.take_body(b"")
        elif head.expects_continue and not data:
            self.write(CONTINUE)
        return data

    def _read_body(self, data: bytes) -> bytes:
        """Take what has come of a body; returns what stands behind it."""
        chunked, limits = self._chunked, self._house.limits
        if chunked is None:
            part, rest = data[: self._missing], data[self._missing :]
            self._missing -= len(part)
            is_whole = self._missing == 0
        else:
            part = chunked.feed(data)
            rest, is_whole = chunked.rest, chunked.is_complete
        self._size += len(part)
        request = self._request
        if request is None:
            return b""
        if self._size > limits.body_bytes:
            request.abandon(body_too_large(limits.body_bytes))
            return b""
        self._parts.append(part)
        if not is_whole:
            self.deadline = min(self._in(limits.body_idle_seconds), self._body_deadline)
            return b""
        self._state, self.deadline = State.ANSWERING, NEVER
        body = part if len(self._parts) == 1 else b"".join(self._parts)
        self._parts = []
        request.take_body(body)
        return rest

    # Leaving.

    def _refuse(self, error: ApiError) -> None:
        """Answer what cannot be read, and leave."""
        request, self._request = self._request, None
        if request is not None:
            request.abandon(error)
            return
        body = error.body()
        head = b"HTTP/1.1 %d \r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
        self.write(head % (error.status, len(body)) + body)
        self._leave(LINGER_SECONDS)

    def _leave(self, seconds: float) -> None:
        """Nothing is read any more; what is written has ``seconds`` to reach the client."""
        if self._state is State.LEAVING or self._transport.is_closing():
            return
        was_reading = self._state
        self._state, self.deadline, self._held, self._early = State.LEAVING, self._in(seconds), b"", b""
        if was_reading is State.ANSWERING or not self._transport.can_write_eof():
            self._transport.close()
        else:
            # To close while the client still sends would take the answer from it again.
            self._transport.write_eof()

    def _in(self, seconds: float) -> float:
        return self._house.deadlines.clock() + seconds
