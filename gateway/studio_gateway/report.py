"""Usage to the coordinator: every second or 500 records, at least once; on disk while the coordinator is away.

::

    add ──► pending ──report──► with the coordinator
              │  ▲                  ▲
              │  └──not taken       │
              └──relieve──► spool ──┘

A batch is out of the queue while it is under way, and goes back to its head where it was not taken. A coordinator that hangs
holds up a report for seconds: meanwhile, a queue that is half full goes to disk. A record is given up only where the disk fails
or is full, and is counted.
"""

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import structlog
from studio.v1.route_pb2 import UsageRecord
from studio.v1.route_service_pb2 import ReportUsageRequest

from studio_gateway.account import Metrics
from studio_gateway.link import Link
from studio_gateway.spool import Spool

log = structlog.get_logger()

BATCH_RECORDS = 500
PENDING_RECORDS = 10_000
# So many waiting go to disk, whatever a report that is under way will come to.
RELIEVED_RECORDS = 5_000
INTERVAL_SECONDS = 1.0
CALL_SECONDS = 5.0
LAST_CALL_SECONDS = 2.0


class UsageReporter:
    """Takes records without ever waiting; sends them from ``run``."""

    def __init__(self, link: Link, spool: Spool, gateway_id: str, metrics: Metrics) -> None:
        self._link = link
        self._spool = spool
        self._gateway_id = gateway_id
        self._metrics = metrics
        # Neither sent nor on disk.
        self._pending: deque[UsageRecord] = deque()
        self._wake = asyncio.Event()
        self._half_full = asyncio.Event()
        self._is_away = False

    def add(self, record: UsageRecord) -> None:
        """Take one record; with 10,000 waiting, the oldest is given up."""
        if len(self._pending) >= PENDING_RECORDS:
            self._pending.popleft()
            self._metrics.usage_lost.inc()
        self._pending.append(record)
        if len(self._pending) >= BATCH_RECORDS:
            self._wake.set()
        if len(self._pending) >= RELIEVED_RECORDS:
            self._half_full.set()

    async def run(self) -> None:
        """Report until cancelled; then once more, and what still cannot be sent goes to disk."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._report())
                tasks.create_task(self._relieve())
        finally:
            await self._flush(LAST_CALL_SECONDS)
            await self._link.close()

    async def _report(self) -> None:
        while True:
            await self._pause()
            await self._flush(CALL_SECONDS)

    async def _relieve(self) -> None:
        while True:
            await self._half_full.wait()
            self._half_full.clear()
            await self._to_disk()

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(INTERVAL_SECONDS):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()

    async def _flush(self, seconds: float) -> None:
        """Send all that is pending, then what is on disk; on failure the former goes to disk."""
        try:
            for _ in self._turns():
                with self._batch() as batch:
                    await self._send(batch, seconds)
            await self._send_spooled(seconds)
        except grpc.aio.AioRpcError as error:
            say = log.debug if self._is_away else log.info
            say("usage_not_reported", coordinator=str(self._link.address), reason=error.details() or error.code().name)
            self._is_away = True
            await self._link.turn()
            await self._to_disk()
        else:
            self._is_away = False

    def _turns(self) -> Iterator[None]:
        """Once for each batch that is pending now.

        What comes meanwhile is for later: else a busy gateway would never get to what is on disk, nor back from it.
        """
        for _ in range(0, len(self._pending), BATCH_RECORDS):
            if self._pending:
                yield

    @contextmanager
    def _batch(self) -> Iterator[ReportUsageRequest]:
        """The oldest that are pending; they are pending again where the body fails or is cancelled."""
        records = [self._pending.popleft() for _ in range(min(BATCH_RECORDS, len(self._pending)))]
        try:
            yield ReportUsageRequest(gateway_id=self._gateway_id, records=records)
        except BaseException:
            self._pending.extendleft(reversed(records))
            raise

    async def _send(self, request: ReportUsageRequest, seconds: float) -> None:
        try:
            await self._link.service().ReportUsage(request, timeout=seconds, metadata=self._link.metadata())
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.INVALID_ARGUMENT:
                raise
            # It would be refused for ever and hold up all that follows.
            self._metrics.usage_lost.inc(len(request.records))
            log.exception("usage_refused", records=len(request.records), reason=error.details())

    async def _send_spooled(self, seconds: float) -> None:
        try:
            while segment := await asyncio.to_thread(self._spool.oldest):
                path, batches = segment
                for kept in batches:
                    await self._send(kept, seconds)
                await asyncio.to_thread(self._spool.remove, path)
            await self._measure()
        except OSError as error:
            # It stays where it is; the next report tries again.
            log.exception("usage_spool_not_read", error=str(error))

    async def _to_disk(self) -> None:
        try:
            for _ in self._turns():
                with self._batch() as batch:
                    lost = await asyncio.to_thread(self._spool.append, batch)
                self._metrics.usage_lost.inc(lost)
            await self._measure()
        except OSError as error:
            # They stay in memory, where the oldest are given up in the end.
            log.exception("usage_not_spooled", error=str(error))

    async def _measure(self) -> None:
        self._metrics.spool_bytes.set(await asyncio.to_thread(lambda: self._spool.size_bytes))
