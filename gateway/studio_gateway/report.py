"""Usage to the coordinator: every second or 500 records, at least once; on disk while the coordinator is away."""

import asyncio
from collections import deque
from itertools import islice

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
        # What is sent stays here until the coordinator has it.
        self._pending: deque[UsageRecord] = deque()
        self._wake = asyncio.Event()
        self._is_away = False

    def add(self, record: UsageRecord) -> None:
        """Take one record; with 10,000 waiting, the oldest is given up."""
        if len(self._pending) >= PENDING_RECORDS:
            self._pending.popleft()
            self._metrics.usage_lost.inc()
        self._pending.append(record)
        if len(self._pending) >= BATCH_RECORDS:
            self._wake.set()

    async def run(self) -> None:
        """Report until cancelled; then once more, and what still cannot be sent goes to disk."""
        try:
            while True:
                await self._pause()
                await self._flush(CALL_SECONDS)
        finally:
            await self._flush(LAST_CALL_SECONDS)
            await self._link.close()

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
            while batch := list(islice(self._pending, BATCH_RECORDS)):
                await self._send(ReportUsageRequest(gateway_id=self._gateway_id, records=batch), seconds)
                self._drop(len(batch))
            while segment := await asyncio.to_thread(self._spool.oldest):
                path, batches = segment
                for kept in batches:
                    await self._send(kept, seconds)
                await asyncio.to_thread(self._spool.remove, path)
        except grpc.aio.AioRpcError as error:
            say = log.debug if self._is_away else log.info
            say("usage_not_reported", coordinator=str(self._link.address), reason=error.details() or error.code().name)
            self._is_away = True
            await self._link.turn()
            await self._to_disk()
        else:
            self._is_away = False
        self._metrics.spool_bytes.set(await asyncio.to_thread(lambda: self._spool.size_bytes))

    async def _send(self, request: ReportUsageRequest, seconds: float) -> None:
        try:
            await self._link.service().ReportUsage(request, timeout=seconds, metadata=self._link.metadata())
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.INVALID_ARGUMENT:
                raise
            # It would be refused for ever and hold up all that follows.
            self._metrics.usage_lost.inc(len(request.records))
            log.exception("usage_refused", records=len(request.records), reason=error.details())

    async def _to_disk(self) -> None:
        while batch := list(islice(self._pending, BATCH_RECORDS)):
            try:
                lost = await asyncio.to_thread(
                    self._spool.append, ReportUsageRequest(gateway_id=self._gateway_id, records=batch)
                )
            except OSError as error:
                # They stay in memory, where the oldest are given up in the end.
                log.exception("usage_not_spooled", error=str(error))
                return
            self._metrics.usage_lost.inc(lost)
            self._drop(len(batch))

    def _drop(self, count: int) -> None:
        for _ in range(min(count, len(self._pending))):
            self._pending.popleft()
