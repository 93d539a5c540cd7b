"""TelemetryService over a real port, and what is exported."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import grpc
import pytest
from fakes.agent import connected
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from studio.v1.agent_service_pb2 import ReportTelemetryRequest
from studio.v1.agent_service_pb2_grpc import AgentServiceStub
from studio.v1.host_pb2 import Gpu
from studio.v1.telemetry_service_pb2 import GetHistoryRequest, SeriesName, WatchTelemetryRequest, WatchTelemetryResponse
from studio.v1.telemetry_service_pb2_grpc import TelemetryServiceStub
from studio_coordinator.telemetry.otlp import exporting

BUSY = SeriesName(kind="gpu", id="GPU-1", field="utilization_share")


@pytest.fixture
def telemetry(channel: grpc.aio.Channel) -> TelemetryServiceStub:
    return TelemetryServiceStub(channel)


@asynccontextmanager
async def measured(channel: grpc.aio.Channel, busy: float) -> AsyncIterator[object]:
    """A host that reports one GPU; yields its telemetry stream's ``write``."""
    async with connected(channel, "h1", Gpu(uuid="GPU-1", model="H100")) as agent:
        call = AgentServiceStub(channel).ReportTelemetry()

        async def report(share: float) -> None:
            figures = ReportTelemetryRequest(session_epoch=agent.welcome.session_epoch, host_id="id-h1")
            figures.host.cpu_share = share
            figures.gpus["GPU-1"].utilization_share = share
            await call.write(figures)

        await report(busy)
        yield report
        call.cancel()


async def until_shown(changes: AsyncIterator[WatchTelemetryResponse], share: float) -> list[WatchTelemetryResponse]:
    seen = []
    async with asyncio.timeout(20):
        async for change in changes:
            seen.append(change)
            if any(gpu.figures.utilization_share == share for host in change.hosts for gpu in host.gpus):
                return seen
    raise AssertionError("the stream ended")


async def test_a_watcher_sees_the_whole_and_then_what_changed(
    channel: grpc.aio.Channel, telemetry: TelemetryServiceStub
) -> None:
    async with measured(channel, 0.25) as report:
        request = WatchTelemetryRequest()
        request.interval.FromMilliseconds(200)
        call = telemetry.WatchTelemetry(request)
        first = await until_shown(aiter(call), 0.25)
        assert first[0].complete
        await report(0.75)  # type: ignore[operator] # see measured
        later = await until_shown(aiter(call), 0.75)
        assert not any(change.complete for change in later)
        call.cancel()


async def test_history_of_the_last_seconds(channel: grpc.aio.Channel, telemetry: TelemetryServiceStub) -> None:
    async with measured(channel, 0.5):
        async with asyncio.timeout(20):
            while not (points := (await telemetry.GetHistory(GetHistoryRequest(series=[BUSY]))).series[0].points):
                await asyncio.sleep(0.05)
        assert points[0].mean == pytest.approx(0.5)
        assert points[0].max == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("series", "told"),
    [
        ([], "no series is named"),
        ([SeriesName(kind="planet", id="x", field="y")], "no history of a 'planet'"),
        ([SeriesName(kind="gpu", id="x", field="colour")], "'colour' of a gpu"),
        ([BUSY] * 100, "at most 64"),
    ],
)
async def test_a_history_that_nobody_keeps_is_refused(
    telemetry: TelemetryServiceStub, series: list[SeriesName], told: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match=told) as refused:
        await telemetry.GetHistory(GetHistoryRequest(series=series))
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT


@contextmanager
def a_collector() -> Iterator[tuple[str, list[bytes]]]:
    """Something that takes OTLP over HTTP; its endpoint, and what came."""
    came: list[bytes] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            came.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Collector) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1/metrics", came
        finally:
            server.shutdown()
            thread.join()


async def test_figures_go_out_as_otlp_where_an_endpoint_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    report = ReportTelemetryRequest()
    report.gpus["GPU-1"].power_watts = 512
    with a_collector() as (endpoint, came):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", endpoint)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
        # What is left is sent at the end.
        with exporting(lambda: [("h1", report)]):
            pass
    sent = ExportMetricsServiceRequest.FromString(came[-1])
    metrics = {
        metric.name: metric.gauge.data_points[0]
        for resource in sent.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }
    power = metrics["studio_gpu_power_watts"]
    assert power.as_double == 512
    assert {one.key: one.value.string_value for one in power.attributes} == {"host": "h1", "gpu": "GPU-1"}


async def test_without_an_endpoint_nothing_is_made() -> None:
    def never() -> list[tuple[str, ReportTelemetryRequest]]:
        raise AssertionError("nobody asked")

    with exporting(never, {}):
        pass
