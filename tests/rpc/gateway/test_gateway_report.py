"""Usage to the coordinator: at least once, never lost by a restart of either side, counted once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from fakes.route_service import RouteServer
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs
from studio.v1.route_pb2 import UsageRecord
from studio.v1.route_service_pb2 import ReportUsageRequest
from studio_gateway import report
from studio_gateway.account import Metrics
from studio_gateway.link import Link
from studio_gateway.report import UsageReporter
from studio_gateway.spool import Spool
from studio_runtime.settings import Address


def a_record(number: int) -> UsageRecord:
    return UsageRecord(request_id=f"req-{number}", key_id="k", model="tiny")


def segments(folder: Path) -> list[Path]:
    return list(folder.glob("usage-*"))


@asynccontextmanager
async def reporting(folder: Path, port: int, metrics: Metrics | None = None) -> AsyncIterator[UsageReporter]:
    metrics = metrics or Metrics(CollectorRegistry())
    reporter = UsageReporter(Link([Address("127.0.0.1", port)]), Spool(folder), "gw-1", metrics)
    task = asyncio.create_task(reporter.run())
    try:
        yield reporter
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def closed_port() -> int:
    async with RouteServer() as server:
        return server.port


async def test_records_arrive(tmp_path: Path):
    async with RouteServer() as server, reporting(tmp_path, server.port) as reporter:
        for number in range(1200):
            reporter.add(a_record(number))
        await server.until_counted(1200)
        assert server.reports >= 3


async def test_what_is_pending_is_sent_on_the_way_out(tmp_path: Path):
    async with RouteServer() as server:
        async with reporting(tmp_path, server.port) as reporter:
            reporter.add(a_record(1))
            await asyncio.sleep(0)
        assert set(server.usage) == {"req-1"}


async def test_nothing_is_lost_while_the_coordinator_is_away_and_the_gateway_restarts(tmp_path: Path):
    port = await closed_port()
    async with reporting(tmp_path, port) as reporter:
        for number in range(700):
            reporter.add(a_record(number))
        await _until_spooled(tmp_path)
        reporter.add(a_record(700))
    async with RouteServer(port=port) as server, reporting(tmp_path, port):
        await server.until_counted(701)
    assert not segments(tmp_path)


async def test_coordinator_that_comes_back_gets_what_was_spooled(tmp_path: Path):
    port = await closed_port()
    async with reporting(tmp_path, port) as reporter:
        reporter.add(a_record(1))
        await _until_spooled(tmp_path)
        async with RouteServer(port=port) as server:
            await server.until_counted(1)


async def test_batch_that_is_refused_for_good_does_not_hold_up_the_rest(tmp_path: Path):
    registry = CollectorRegistry()
    async with RouteServer() as server, reporting(tmp_path, server.port, Metrics(registry)) as reporter:
        server.refusals.append(grpc.StatusCode.INVALID_ARGUMENT)
        reporter.add(a_record(1))
        async with asyncio.timeout(10):
            while not server.reports:
                await asyncio.sleep(0.01)
        reporter.add(a_record(2))
        await server.until_counted(1)
        assert set(server.usage) == {"req-2"}
        assert registry.get_sample_value("studio_gateway_usage_records_lost_total") == 1


async def test_memory_is_bounded_and_the_loss_is_counted(tmp_path: Path):
    registry = CollectorRegistry()
    link = Link([Address("127.0.0.1", await closed_port())])
    reporter = UsageReporter(link, Spool(tmp_path), "gw-1", Metrics(registry))
    for number in range(report.PENDING_RECORDS + 5):
        reporter.add(a_record(number))
    assert registry.get_sample_value("studio_gateway_usage_records_lost_total") == 5


async def test_nothing_is_lost_while_the_coordinator_hangs(tmp_path: Path):
    registry = CollectorRegistry()
    async with RouteServer() as server, reporting(tmp_path, server.port, Metrics(registry)) as reporter:
        server.answers.clear()
        reporter.add(a_record(0))
        await server.until_reported(1)
        for first in (1, report.RELIEVED_RECORDS + 1, 2 * report.RELIEVED_RECORDS + 1):
            for number in range(first, first + report.RELIEVED_RECORDS):
                reporter.add(a_record(number))
            await _until_spooled(tmp_path, first + report.RELIEVED_RECORDS - 1)
        assert server.reports == 1
        server.answers.set()
        await server.until_counted(3 * report.RELIEVED_RECORDS + 1)
    assert registry.get_sample_value("studio_gateway_usage_records_lost_total") == 0


async def test_batch_under_way_takes_nothing_with_it_that_came_later(tmp_path: Path):
    registry = CollectorRegistry()
    async with RouteServer() as server, reporting(tmp_path, server.port, Metrics(registry)) as reporter:
        server.answers.clear()
        for number in range(report.BATCH_RECORDS):
            reporter.add(a_record(number))
        await server.until_reported(1)
        for number in range(report.PENDING_RECORDS):
            reporter.add(a_record(report.BATCH_RECORDS + number))
        server.answers.set()
        await server.until_counted(report.BATCH_RECORDS + report.PENDING_RECORDS)
    assert registry.get_sample_value("studio_gateway_usage_records_lost_total") == 0


async def test_disk_that_cannot_be_read_holds_up_no_report(tmp_path: Path):
    (tmp_path / "usage-000000000001.binpb").mkdir()
    async with RouteServer() as server, reporting(tmp_path, server.port) as reporter:
        with capture_logs() as said:
            reporter.add(a_record(1))
            async with asyncio.timeout(10):
                while all(entry["event"] != "usage_spool_not_read" for entry in said):
                    await asyncio.sleep(0.01)
        reporter.add(a_record(2))
        await server.until_counted(2)


def test_spool_that_failed_once_takes_the_next_batch(tmp_path: Path):
    folder = tmp_path / "usage"
    spool = Spool(folder)
    folder.rmdir()
    batch = ReportUsageRequest(gateway_id="gw-1", records=[a_record(1)])
    with pytest.raises(OSError, match="No such file"):
        spool.append(batch)
    folder.mkdir()
    spool.append(batch)
    assert spooled(folder) == 1


def spooled(folder: Path) -> int:
    segment = Spool(folder).oldest()
    return sum(len(batch.records) for batch in segment[1]) if segment else 0


async def _until_spooled(folder: Path, count: int = 1) -> None:
    async with asyncio.timeout(10):
        while spooled(folder) < count:
            await asyncio.sleep(0.01)
