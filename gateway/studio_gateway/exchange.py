"""One request and its answer; every answer leaves through here, so that it begins once and ends once."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import unquote

from studio_gateway.chunks import LAST_CHUNK, framed
from studio_gateway.headers import request_id_of
from studio_gateway.http1 import RequestHead, status_line
from studio_gateway.openai_errors import ApiError

Headers = Iterable[tuple[bytes, bytes]]

JSON = (b"content-type", b"application/json")
BODILESS = (204, 304)
EVENTS = (b"content-type", b"text/event-stream; charset=utf-8")


class Client(ABC):
    """The connection that a request came by."""

    __slots__ = ("write",)

    # Sends, without waiting; nothing happens once the client is gone. The transport's own method: it is called for every token.
    write: Callable[[bytes], None]

    @abstractmethod
    def answered(self, *, can_go_on: bool) -> None:
        """The answer has ended; the connection may carry another request where the answer allows it."""

    @abstractmethod
    def will_close(self) -> bool:
        """Whether this answer is the last on the connection, whatever the answer is."""


class Exchange:
    """One request of a client. Nothing here waits: what the client does not read yet, its connection holds."""

    __slots__ = (
        "_client",
        "_delayed",
        "_has_body",
        "_is_chunked",
        "_is_last",
        "by_name",
        "headers",
        "id",
        "is_ended",
        "is_events",
        "is_started",
        "method",
        "path",
        "query",
        "raw_path",
        "request_id",
        "status",
    )

    def __init__(self, head: RequestHead, client: Client, made_id: str) -> None:
        target, _, query = head.target.partition(b"?")
        self.method = head.method
        self.raw_path = target.decode("ascii")
        self.path = unquote(self.raw_path) if b"%" in target else self.raw_path
        self.query = query.decode("ascii")
        self.headers = head.fields
        self.by_name = head.by_name
        # Unique, whatever the client says: usage is counted by it.
        self.id = made_id
        # What client, engine and logs know the request by.
        self.request_id = request_id_of(head.by_name) or made_id
        self.is_started = False
        self.is_ended = False
        self.is_events = False
        self.status = 0
        self._client = client
        # The head, until there is a first part to send it with.
        self._delayed = b""
        self._has_body = head.method != "HEAD"
        self._is_chunked = head.is_http11
        self._is_last = not head.keeps_alive

    @property
    def is_anthropic(self) -> bool:
        """Whether errors take the form that Anthropic's clients read."""
        return self.path.startswith("/v1/messages")

    def header(self, name: bytes) -> str:
        """The value of a field by its lower-case name; empty where there is none."""
        value = self.by_name.get(name)
        return "" if value is None else value.decode("latin-1")

    def begin(self, status: int, headers: Headers, *, length: int | None = None, events: bool = False) -> None:
        """Begin the answer; ``length``: bytes of its body where that is known. The head leaves with what follows it."""
        self.is_started = True
        self.is_events = events
        self.status = status
        lines = [status_line(status)]
        lines += [b"%b: %b\r\n" % header for header in headers]
        lines.append(b"x-request-id: %b\r\n" % self.request_id.encode("latin-1"))
        if status in BODILESS:
            self._has_body = False
        elif length is not None:
            self._is_chunked = False
            lines.append(b"content-length: %d\r\n" % length)
        elif self._is_chunked and self._has_body:
            lines.append(b"transfer-encoding: chunked\r\n")
        elif self._has_body:
            # HTTP/1.0 has no other end than that of the connection.
            self._is_last = True
        if self._is_last or self._client.will_close():
            self._is_last = True
            lines.append(b"connection: close\r\n")
        lines.append(b"\r\n")
        self._delayed = b"".join(lines)

    def send(self, body: bytes) -> None:
        """Send a part of the body."""
        if not body or not self._has_body:
            return
        part = framed(body) if self._is_chunked else body
        if self._delayed:
            part, self._delayed = self._delayed + part, b""
        self._client.write(part)

    def flush(self) -> None:
        """Send the head where it still waits for a part."""
        if self._delayed:
            self._client.write(self._delayed)
            self._delayed = b""

    def end(self, body: bytes = b"") -> None:
        """Send the last part of the body."""
        self.is_ended = True
        if self._has_body:
            if self._is_chunked:
                body = framed(body) + LAST_CHUNK if body else LAST_CHUNK
            if body:
                self._client.write(self._delayed + body if self._delayed else body)
                self._delayed = b""
        self.flush()
        self._client.answered(can_go_on=not self._is_last)

    def answer(self, status: int, body: bytes, headers: Headers = (JSON,)) -> None:
        """Send a whole answer."""
        self.begin(status, headers, length=len(body))
        self.end(body)

    def answer_json(self, document: Any, status: int = 200) -> None:
        """Send a whole answer in JSON."""
        self.answer(status, json.dumps(document).encode())

    def drop(self) -> None:
        """End without an answer, by the end of the connection: who asked may ask somebody else."""
        self.is_ended = True
        self._client.answered(can_go_on=False)

    def fail(self, error: ApiError) -> None:
        """End the request with ``error``: as an answer, or as the last event of a stream that has begun.

        An answer of another kind that has begun is left incomplete: the end of the connection is the only way to tell the client.
        """
        if self.is_ended:
            return
        if not self.is_started:
            headers = [JSON]
            if error.retry_after_seconds is not None:
                headers.append((b"retry-after", str(error.retry_after_seconds).encode()))
            self.answer(error.status, error.body(anthropic=self.is_anthropic), headers)
        elif self.is_events:
            self.end(error.event(anthropic=self.is_anthropic))
        else:
            self.drop()
