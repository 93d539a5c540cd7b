"""A load generator that costs little: keeps N connections busy with one request each, and notes when bytes come."""

import asyncio
import re
import time
from dataclasses import dataclass, field
from typing import cast

LENGTH = re.compile(rb"content-length:\s*(\d+)", re.IGNORECASE)
STREAM_END = b"0\r\n\r\n"


@dataclass
class Outcome:
    """What one run saw. Times in seconds."""

    seconds: float = 0.0
    answers: int = 0
    failures: int = 0
    latencies: list[float] = field(default_factory=list)
    first_bytes: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Answers per second."""
        return self.answers / self.seconds

    def percentile(self, values: list[float], share: float) -> float:
        """The value below which ``share`` of ``values`` lie, in milliseconds."""
        ordered = sorted(values)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000 if ordered else 0.0


class _Connection(asyncio.Protocol):
    def __init__(self, request: bytes, outcome: Outcome, until: float) -> None:
        self._request = request
        self._outcome = outcome
        self._until = until
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._send()

    def _send(self) -> None:
        self._received = b""
        self._needed = 0
        self._sent_at = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        if not self._received:
            self._body_seen = False
            self._outcome.failures += not data.startswith(b"HTTP/1.1 200")
        # Of a stream only the end matters; keeping all of it would measure this program.
        self._received = self._received[-8:] + data if self._body_seen and not self._needed else self._received + data
        if not self._body_seen and b"\r\n\r\n" in self._received:
            head, _, body = self._received.partition(b"\r\n\r\n")
            found = LENGTH.search(head)
            self._needed = len(head) + 4 + int(found.group(1)) if found else 0
            if body or found:
                self._body_seen = True
                self._outcome.first_bytes.append(now - self._sent_at)
        if self._body_seen and (
            len(self._received) >= self._needed if self._needed else self._received.endswith(STREAM_END)
        ):
            self._outcome.answers += 1
            self._outcome.latencies.append(now - self._sent_at)
            if now < self._until:
                self._send()
            else:
                self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if not self.ended.done():
            self.ended.set_result(None)


async def run(port: int, request: bytes, connections: int, seconds: float, spread_seconds: float = 0.0) -> Outcome:
    """Keep ``connections`` busy for ``seconds``; what was begun is finished. They begin evenly over ``spread_seconds``."""
    outcome = Outcome()
    began = time.perf_counter()
    loop = asyncio.get_running_loop()

    async def connect(number: int) -> None:
        await asyncio.sleep(spread_seconds * number / connections)
        _, protocol = await loop.create_connection(
            lambda: _Connection(request, outcome, began + seconds), "127.0.0.1", port
        )
        await protocol.ended

    await asyncio.gather(*map(connect, range(connections)))
    outcome.seconds = time.perf_counter() - began
    return outcome
