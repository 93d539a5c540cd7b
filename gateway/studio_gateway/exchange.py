"""One request and its answer, as the ASGI server hands them over."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from types import TracebackType
from typing import Any, Self

from studio_gateway.headers import request_id_of
from studio_gateway.openai_errors import ApiError, body_timeout, body_too_large

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = Iterable[tuple[bytes, bytes]]

JSON = (b"content-type", b"application/json")
EVENTS = (b"content-type", b"text/event-stream; charset=utf-8")


class ClientGoneError(Exception):
    """The client has closed its connection before the answer was complete."""


class Exchange:
    """One request of a client; every answer leaves through here, so that it begins once and ends once."""

    def __init__(self, scope: Message, receive: Receive, send: Send, made_id: str) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.raw_path: str = scope["raw_path"].decode("latin-1")
        self.query: str = scope["query_string"].decode("latin-1")
        self.headers: list[tuple[bytes, bytes]] = scope["headers"]
        # Unique, whatever the client says: usage is counted by it.
        self.id = made_id
        # What client, engine and logs know the request by.
        self.request_id = request_id_of(self.headers) or made_id
        self.is_started = False
        self.is_ended = False
        self.is_events = False
        self.status = 0
        self._receive = receive
        self._send = send

    @property
    def is_anthropic(self) -> bool:
        """Whether errors take the form that Anthropic's clients read."""
        return self.path.startswith("/v1/messages")

    async def read_body(self, limit_bytes: int, idle_seconds: float) -> bytes:
        """The whole body. Raises ApiError when it is too large or stalls, ClientGoneError when the client is gone."""
        parts: list[bytes] = []
        size = 0
        more = True
        clock = asyncio.get_running_loop().time
        try:
            async with asyncio.timeout(idle_seconds) as limit:
                while more:
                    message = await self._receive()
                    if message["type"] == "http.disconnect":
                        raise ClientGoneError
                    part: bytes = message.get("body", b"")
                    size += len(part)
                    if size > limit_bytes:
                        raise body_too_large(limit_bytes)
                    parts.append(part)
                    more = message.get("more_body", False)
                    limit.reschedule(clock() + idle_seconds)
        except TimeoutError:
            raise body_timeout(idle_seconds) from None
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def begin(self, status: int, headers: Headers, *, events: bool = False) -> None:
        """Send the status and the headers."""
        self.is_started = True
        self.is_events = events
        self.status = status
        named = [*headers, (b"x-request-id", self.request_id.encode("latin-1"))]
        await self._send({"type": "http.response.start", "status": status, "headers": named})

    async def send(self, body: bytes) -> None:
        """Send a part of the body; waits while the client reads more slowly than this."""
        await self._send({"type": "http.response.body", "body": body, "more_body": True})

    async def end(self, body: bytes = b"") -> None:
        """Send the last part of the body."""
        self.is_ended = True
        await self._send({"type": "http.response.body", "body": body, "more_body": False})

    async def answer(self, status: int, body: bytes, headers: Headers = (JSON,)) -> None:
        """Send a whole answer."""
        await self.begin(status, [*headers, (b"content-length", str(len(body)).encode())])
        await self.end(body)

    async def answer_json(self, document: Any, status: int = 200) -> None:
        """Send a whole answer in JSON."""
        await self.answer(status, json.dumps(document).encode())

    async def fail(self, error: ApiError) -> None:
        """End the request with ``error``: as an answer, or as the last event of a stream that has begun.

        An answer of another kind that has begun is left incomplete: the server then closes the connection, which is the only way
        to tell the client.
        """
        if not self.is_started:
            headers = [JSON]
            if error.retry_after_seconds is not None:
                headers.append((b"retry-after", str(error.retry_after_seconds).encode()))
            # The rest of a body that was refused is not waited for.
            if error.status in (408, 413):
                headers.append((b"connection", b"close"))
            await self.answer(error.status, error.body(anthropic=self.is_anthropic), headers)
        elif self.is_events and not self.is_ended:
            await self.end(error.event(anthropic=self.is_anthropic))

    def while_client_waits(self) -> "ClientWatch":
        """A block that ends with ClientGoneError as soon as the client closes its connection. The body has to be read before."""
        return ClientWatch(self._receive)


class ClientWatch:
    """The block of ``Exchange.while_client_waits``; cancels its own task, as ``asyncio.timeout`` does."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._is_gone = False

    async def __aenter__(self) -> Self:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a client is watched from within a task")
        self._task = task
        self._cancelling = task.cancelling()
        self._watch = asyncio.create_task(self._wait())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watch.cancel()
        if self._is_gone and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise ClientGoneError from error

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._is_gone = True
        self._task.cancel()
