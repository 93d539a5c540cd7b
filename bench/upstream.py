"""An engine for benchmarks: answers at once, or streams at a given pace, and costs next to nothing itself.

``python bench/upstream.py PORT`` serves until it is killed. ``"stream": true`` in the body asks for a stream of
100 events, the words ``pace-20-ms`` in a message for pauses of 20 ms between them (routers write bodies anew and drop fields that
they do not know); else the answer is one JSON document of about 500 bytes.
"""

import asyncio
import json
import re
import sys
from typing import cast

EVENTS = 100
STREAM = re.compile(rb'"stream":\s*true')
PACE = re.compile(rb"pace-(\d+)-ms")
LENGTH = re.compile(rb"content-length:\s*(\d+)", re.IGNORECASE)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def _event(document: object) -> bytes:
    return _chunk(b"data: " + json.dumps(document).encode() + b"\n\n")


BASE = {"id": "chatcmpl-0123456789abcdef", "object": "chat.completion.chunk", "created": 1, "model": "tiny"}
USAGE = {"prompt_tokens": 20, "completion_tokens": EVENTS, "total_tokens": 20 + EVENTS}
TOKEN = _event(
    BASE | {"choices": [{"index": 0, "delta": {"content": " token"}, "logprobs": None, "finish_reason": None}]}
)
LAST = (
    _event(BASE | {"choices": [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "length"}]})
    + _event(BASE | {"choices": [], "usage": USAGE})
    + _chunk(b"data: [DONE]\n\n")
    + b"0\r\n\r\n"
)
STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
MESSAGE = {"index": 0, "message": {"role": "assistant", "content": "Hello. " * 30}, "finish_reason": "stop"}
BODY = json.dumps(BASE | {"object": "chat.completion", "choices": [MESSAGE], "usage": USAGE}).encode()
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)


class Engine(asyncio.Protocol):
    """One connection; requests on it come one after the other."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)
        self._received = b""
        self._task: asyncio.Task[None] | None = None

    def data_received(self, data: bytes) -> None:
        """Answer when a request is whole."""
        self._received += data
        head, blank, body = self._received.partition(b"\r\n\r\n")
        found = LENGTH.search(head)
        if not blank or len(body) < (int(found.group(1)) if found else 0):
            return
        self._received = b""
        if not STREAM.search(body):
            self._transport.write(ANSWER)
            return
        pace = PACE.search(body)
        if pace is None:
            self._transport.write(STREAM_HEAD)
            for _ in range(EVENTS):
                self._transport.write(TOKEN)
            self._transport.write(LAST)
            return
        self._task = asyncio.ensure_future(self._stream(int(pace.group(1)) / 1000))

    async def _stream(self, pause_seconds: float) -> None:
        self._transport.write(STREAM_HEAD)
        for _ in range(EVENTS):
            self._transport.write(TOKEN)
            await asyncio.sleep(pause_seconds)
        self._transport.write(LAST)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop streaming."""
        del exc
        if self._task is not None:
            self._task.cancel()


async def main(port: int) -> None:
    """Serve on ``port``."""
    server = await asyncio.get_running_loop().create_server(Engine, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    import uvloop

    uvloop.run(main(int(sys.argv[1])))
