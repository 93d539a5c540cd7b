"""What the gateway says on its stream to the coordinator: one writer, so that two writes never meet.

Acknowledgements go as they come. The traffic report goes every second in which there is news, at once when somebody begins to
wait for a model or nobody does any more, and every `SILENT_SECONDS` without news: of a gateway that says nothing, nothing is
known.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

import grpc
from studio.v1.route_service_pb2 import WatchRoutesRequest

from studio_gateway.traffic import Traffic

REPORT_SECONDS = 1.0
SILENT_SECONDS = 3.0


class Voice:
    """Speaks on one stream; ``write`` waits until the stream takes more."""

    def __init__(
        self,
        write: Callable[[WatchRoutesRequest], Awaitable[None]],
        traffic: Traffic,
        in_flight_of: Callable[[str], int],
    ) -> None:
        self._write = write
        self._traffic = traffic
        self._in_flight_of = in_flight_of
        # At most a few: each answers a table that was read.
        self._said: deque[WatchRoutesRequest] = deque()
        self._wake = asyncio.Event()
        self._is_due = True
        self._is_over = False
        self._clock = asyncio.get_running_loop().time
        traffic.on_turn = self._hurry

    def say(self, message: WatchRoutesRequest) -> None:
        """Send ``message`` after those before it."""
        self._said.append(message)
        self._wake.set()

    def end(self) -> None:
        """Say no more."""
        self._is_over = True
        self._traffic.on_turn = lambda: None
        self._wake.set()

    async def run(self) -> None:
        """Speak until ``end``, or until the stream is broken: who reads from it is told why."""
        reported_at = 0.0
        try:
            while not self._is_over:
                while self._said:
                    await self._write(self._said.popleft())
                since = self._clock() - reported_at
                due = since >= SILENT_SECONDS or (since >= REPORT_SECONDS and self._traffic.has_news)
                if self._is_due or due:
                    self._is_due, reported_at = False, self._clock()
                    await self._write(WatchRoutesRequest(traffic=self._traffic.report(self._in_flight_of)))
                    continue
                await self._pause()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return

    def _hurry(self) -> None:
        self._is_due = True
        self._wake.set()

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(REPORT_SECONDS):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()
