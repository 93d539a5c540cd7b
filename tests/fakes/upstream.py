"""An engine that a test scripts to the byte: it speaks HTTP/1.1 over a plain socket, and misbehaves on request."""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Self


@dataclass
class Received:
    """A request as it arrived. ``gone`` is set once its connection was closed by the other side while it was being answered."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    connection: int
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def document(self) -> Any:
        return json.loads(self.body)


Script = Callable[[Received, asyncio.StreamWriter], Awaitable[None]]


def head(status: int = 200, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} Whatever", *headers]
    return "\r\n".join([*lines, "", ""]).encode()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def event(document: Any) -> bytes:
    return b"data: " + (document if isinstance(document, bytes) else json.dumps(document).encode()) + b"\n\n"


def answers(document: Any, status: int = 200, *headers: str) -> Script:
    """A whole JSON answer."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()

    async def script(_request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(head(status, "Content-Type: application/json", f"Content-Length: {len(body)}", *headers) + body)
        await writer.drain()

    return script


def streams(pieces: Iterable[bytes], then: str = "end", gate: asyncio.Event | None = None) -> Script:
    """A stream of events in the given pieces, one HTTP chunk each; then the stream ends, dies or hangs.

    With a ``gate``, what follows the first piece waits for it.
    """

    async def script(request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(head(200, "Content-Type: text/event-stream; charset=utf-8", "Transfer-Encoding: chunked"))
        for number, piece in enumerate(pieces):
            if number == 1 and gate is not None:
                await gate.wait()
            writer.write(chunk(piece))
            await writer.drain()
            await asyncio.sleep(0)
        if then == "die":
            writer.transport.abort()
        elif then == "hang":
            await request.gone.wait()
        else:
            writer.write(b"0\r\n\r\n")
            await writer.drain()

    return script


def says_nothing() -> Script:
    async def script(request: Received, _writer: asyncio.StreamWriter) -> None:
        await request.gone.wait()

    return script


def sends(raw: bytes, *, close: bool = True) -> Script:
    """Exactly these bytes."""

    async def script(_request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(raw)
        await writer.drain()
        if close:
            writer.close()

    return script


def chat_chunks(*texts: str, model: str = "tiny", with_usage: bool = True) -> list[bytes]:
    """The events of a chat stream, as an engine sends them when usage was asked for."""
    base = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": model}
    events = [
        event(base | {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}) for text in texts
    ]
    events.append(event(base | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}))
    if with_usage:
        usage = {"prompt_tokens": 7, "completion_tokens": len(texts), "total_tokens": 7 + len(texts)}
        events.append(event(base | {"choices": [], "usage": usage}))
    return [*events, event(b"[DONE]")]


def chat_answer(text: str = "Hello", model: str = "tiny") -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": model,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {
            "prompt_tokens": 7,
            "completion_tokens": 3,
            "total_tokens": 10,
            "prompt_tokens_details": {"cached_tokens": 4},
        },
    }


class Upstream:
    """The server; ``script`` answers every request, ``received`` holds them all. Use it as an ``async with`` block."""

    def __init__(self, script: Script | None = None) -> None:
        self.script = script or answers(chat_answer())
        self.received: list[Received] = []
        self.arrived = asyncio.Condition()
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._count = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in list(self._connections.values()):
            writer.transport.abort()
        await asyncio.gather(*self._connections, return_exceptions=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def request(self, number: int = 0) -> Received:
        """The request of that number, once it is there."""
        async with self.arrived, asyncio.timeout(10):
            await self.arrived.wait_for(lambda: len(self.received) > number)
        return self.received[number]

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections[task] = writer
        self._count += 1
        number = self._count
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                while not writer.is_closing():
                    await self._one(reader, writer, number)
        finally:
            del self._connections[task]
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        request = Received(method, target, headers, body, number)
        self.received.append(request)
        async with self.arrived:
            self.arrived.notify_all()
        script = asyncio.create_task(self.script(request, writer))
        peek = asyncio.create_task(self._until_gone(reader))
        try:
            await asyncio.wait({script, peek}, return_when=asyncio.FIRST_COMPLETED)
            if not script.done():
                request.gone.set()
                await asyncio.wait({script}, timeout=5)
            if not script.done():
                script.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await script
        finally:
            peek.cancel()
            script.cancel()

    async def _until_gone(self, reader: asyncio.StreamReader) -> None:
        """Wait for the end of the connection without taking bytes of a next request: clients here do not pipeline."""
        while not reader.at_eof():
            await asyncio.sleep(0.005)
