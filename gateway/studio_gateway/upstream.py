"""Connections to engines: one request at a time on each, kept for the next for less long than engines keep them.

An engine's bytes are read by the same strict grammar as a client's. A connection on which something arrives that nobody asked
for, or behind the end of an answer, is closed: the next request must not get another one's answer.
"""

import asyncio
import functools
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Self, cast
from urllib.parse import urlsplit

from studio_gateway.chunks import ChunkedBody, FramingError
from studio_gateway.deadlines import NEVER, Deadlines
from studio_gateway.http1 import HEAD_END, LARGEST_HEAD_BYTES, AnswerHead, read_answer

# Engines close an idle connection after 5 s; a request sent at that moment would be lost.
KEEP_ALIVE_SECONDS = 4.0
FIRST_FINAL_STATUS = 200


class Asker(ABC):
    """Whoever has asked: is told of the answer as it comes. A base class: calls through one are quick when compiled."""

    __slots__ = ()

    @abstractmethod
    def answer_begins(self, head: AnswerHead) -> None:
        """The head is here."""

    @abstractmethod
    def take_part(self, data: bytes) -> None:
        """A part of the body, never empty."""

    @abstractmethod
    def read_is_over(self) -> None:
        """All of what has arrived together with the head was handed over, and there is more to come."""

    @abstractmethod
    def answer_ends(self) -> None:
        """The answer is whole; the connection is nobody's any more."""

    @abstractmethod
    def answer_breaks(self, reason: str, *, has_begun: bool) -> None:
        """The connection is of no more use, and the answer not whole. ``has_begun``: some of it had arrived."""


@dataclass(frozen=True, slots=True, eq=False)
class Address:
    """Where an engine listens, taken apart; the same object for the same text."""

    host: str
    port: int
    is_tls: bool
    # What stands before every path.
    prefix: bytes
    authority: bytes


@functools.lru_cache(maxsize=4096)
def address_of(base_url: str) -> Address:
    """The parts of ``base_url``, which a route table has found to be sound."""
    url = urlsplit(base_url)
    return Address(
        url.hostname or "", url.port or 0, url.scheme == "https", url.path.rstrip("/").encode(), url.netloc.encode()
    )


class EngineConnection:
    """One connection to an engine, in use by one asker or by none; an ``asyncio.Protocol`` in all but name, as the client's."""

    __slots__ = (
        "_asker",
        "_chunked",
        "_head",
        "_held",
        "_is_paused",
        "_left",
        "_method",
        "_pool",
        "_transport",
        "address",
        "deadline",
    )

    def __init__(self, pool: "Pool", address: Address) -> None:
        self.address = address
        self.deadline = NEVER
        self._pool = pool
        self._asker: Asker | None = None
        self._is_paused = False
        self._head: AnswerHead | None = None
        self._held = b""
        self._method = ""
        self._left = 0
        self._chunked: ChunkedBody | None = None

    def ask(self, asker: Asker, method: str, head: bytes, body: bytes) -> None:
        """Send a request, and tell ``asker`` of its answer."""
        self._asker, self._method, self._head, self.deadline = asker, method, None, NEVER
        self._transport.write(head + body if len(body) < LARGEST_HEAD_BYTES else head)
        if len(body) >= LARGEST_HEAD_BYTES:
            self._transport.write(body)

    def abort(self) -> None:
        """Close at once: that is what tells an engine to stop."""
        self._asker = None
        self._pool.forget(self)
        self._transport.abort()

    def pause(self) -> None:
        """Read no more for the time being."""
        self._is_paused = True
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        self._is_paused = False
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def expired(self) -> None:
        """Nobody has used it for long enough."""
        self.deadline = NEVER
        self.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The engine has accepted."""
        self._transport = cast("asyncio.Transport", transport)
        self.deadline = self._pool.deadlines.clock() + KEEP_ALIVE_SECONDS
        self._pool.deadlines.watch(self)

    def eof_received(self) -> bool:
        """The engine sends no more: let the connection be closed."""
        return False

    def pause_writing(self) -> None:
        """A request is written whole, however slowly the engine reads."""

    def resume_writing(self) -> None:
        """The engine reads again."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone, from whichever side."""
        self._pool.deadlines.forget(self)
        self._pool.forget(self)
        asker, self._asker = self._asker, None
        if asker is None:
            return
        head = self._head
        if exc is None and head is not None and head.length is None and not head.is_chunked:
            asker.answer_ends()
        else:
            has_begun = head is not None or bool(self._held)
            asker.answer_breaks("closed the connection before it had answered", has_begun=has_begun)

    def data_received(self, data: bytes) -> None:
        """Take a part of an answer."""
        asker = self._asker
        if asker is None:
            self.abort()
            return
        try:
            head = self._head
            if head is not None:
                self._read_body(asker, head, data)
                return
            data = self._read_head(data)
            head = self._head
            if head is not None and self._asker is asker:
                self._begin_body(asker, head, data)
        except FramingError:
            asker = self._asker
            self.abort()
            if asker is not None:
                asker.answer_breaks("sent something that is not HTTP", has_begun=True)

    def _read_head(self, data: bytes) -> bytes:
        """Take the head of an answer and say so; returns what stands behind it."""
        data, self._held = self._held + data, b""
        while True:
            end = data.find(HEAD_END) + len(HEAD_END)
            if end < len(HEAD_END):
                if len(data) > LARGEST_HEAD_BYTES or not b"HTTP/1."[: len(data)] == data[:7]:
                    raise FramingError("this is no head")
                self._held = data
                return b""
            head = read_answer(data[:end], self._method)
            data = data[end:]
            # What precedes the answer, such as "100 Continue", is of this connection only.
            if head.status >= FIRST_FINAL_STATUS:
                break
        self._head, self._left = head, head.length or 0
        self._chunked = ChunkedBody() if head.is_chunked else None
        if self._asker is not None:
            self._asker.answer_begins(head)
        return data

    def _begin_body(self, asker: Asker, head: AnswerHead, data: bytes) -> None:
        if data or head.length == 0:
            self._read_body(asker, head, data)
        if self._asker is asker and self._head is head:
            asker.read_is_over()

    def _read_body(self, asker: Asker, head: AnswerHead, data: bytes) -> None:
        chunked = self._chunked
        if chunked is not None:
            data = chunked.feed(data)
            if chunked.is_complete:
                self._finish(asker, head, data, chunked.rest)
            elif data:
                asker.take_part(data)
        elif head.length is None:
            asker.take_part(data)
        elif len(data) < self._left:
            self._left -= len(data)
            asker.take_part(data)
        else:
            self._finish(asker, head, data[: self._left], data[self._left :])

    def _finish(self, asker: Asker, head: AnswerHead, last: bytes, rest: bytes) -> None:
        """The answer is whole with ``last``; ``rest`` stood behind it, where nothing may stand."""
        if last:
            asker.take_part(last)
            if self._asker is not asker:
                return
        self._asker = None
        if rest or not head.keeps_alive or self._transport.get_write_buffer_size():
            self._transport.abort()
        else:
            if self._is_paused:
                # For the client that had this answer; the next one's is to be heard.
                self.resume()
            self._pool.give_back(self)
        asker.answer_ends()


class Pool:
    """Connections that wait for their next request. Use it as a ``with`` block."""

    def __init__(self, deadlines: Deadlines) -> None:
        self.deadlines = deadlines
        self._idle: dict[Address, list[EngineConnection]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for connections in list(self._idle.values()):
            for connection in list(connections):
                connection.abort()

    def take(self, address: Address) -> EngineConnection | None:
        """A connection that waits, the one used last; None where there is none."""
        waiting = self._idle.get(address)
        return waiting.pop() if waiting else None

    def give_back(self, connection: EngineConnection) -> None:
        """An answer has ended, and its connection can carry another."""
        connection.deadline = self.deadlines.clock() + KEEP_ALIVE_SECONDS
        self._idle.setdefault(connection.address, []).append(connection)

    def forget(self, connection: EngineConnection) -> None:
        """The connection is closed."""
        waiting = self._idle.get(connection.address)
        if waiting and connection in waiting:
            waiting.remove(connection)
        if not waiting:
            self._idle.pop(connection.address, None)
