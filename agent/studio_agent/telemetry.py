"""The latest figures of host, GPUs and replicas, on a stream of their own.

A sample is made when it is sent; while the coordinator does not read, none is made and none waits. Supervision never waits for
anything here.
"""

import asyncio
from collections.abc import Callable, Mapping

import structlog
from google.protobuf.timestamp_pb2 import Timestamp
from studio.v1.agent_service_pb2 import ReportTelemetryRequest
from studio.v1.agent_service_pb2_grpc import AgentServiceStub
from studio.v1.host_pb2 import GpuFigures
from studio.v1.replica_pb2 import ReplicaFigures

from studio_agent.engines import driver_for
from studio_agent.engines.errors import UnknownEngineError
from studio_agent.host_figures import host_figures
from studio_agent.latest import Latest
from studio_agent.link import Link
from studio_agent.plan.record import ReplicaRecord, State
from studio_agent.probe import Prober
from studio_agent.settings import AgentSettings
from studio_agent.supervise.observation import base_url

SHORTEST_INTERVAL_SECONDS = 0.1
RETRY_SECONDS = 2.0

log = structlog.get_logger()


class HostSampler:
    """Makes samples: what the host, its GPUs and its engines do right now."""

    def __init__(
        self,
        settings: AgentSettings,
        host_id: str,
        prober: Prober,
        records: Callable[[], Mapping[str, ReplicaRecord]],
        gpus: Callable[[], dict[str, GpuFigures]],
    ) -> None:
        self._settings = settings
        self._host_id = host_id
        self._prober = prober
        self._records = records
        self._gpus = gpus
        # The last figures of each engine, by its token: a restarted engine counts from zero.
        self._last: dict[str, ReplicaFigures] = {}

    async def sample(self, session_epoch: int) -> ReportTelemetryRequest:
        """One sample; what cannot be read is absent or marked stale."""
        at = Timestamp()
        at.GetCurrentTime()
        ready = [r for r in self._records().values() if r.state in (State.STATE_READY, State.STATE_DRAINING)]
        host, figures = await asyncio.gather(
            asyncio.to_thread(host_figures, self._settings.state.root, at),
            asyncio.gather(*(self._replica_figures(record, at) for record in ready)),
        )
        tokens = {record.engine.token for record in ready if record.engine is not None}
        self._last = {token: last for token, last in self._last.items() if token in tokens}
        return ReportTelemetryRequest(
            session_epoch=session_epoch,
            host_id=self._host_id,
            host=host,
            gpus=self._gpus(),
            replicas={r.replica_id: f for r, f in zip(ready, figures, strict=True) if f is not None},
        )

    async def _replica_figures(self, record: ReplicaRecord, at: Timestamp) -> ReplicaFigures | None:
        if (engine := record.engine) is None:
            return None
        previous = self._last.get(engine.token)
        try:
            driver = driver_for(record.assigned.recipe.engine.name)
        except UnknownEngineError:
            return None
        text = await self._prober.metrics_text(base_url(self._settings.engine_address, engine.port))
        if text is None:
            return None if previous is None else _stale(previous)
        figures = with_rate(driver.figures(text, at), previous)
        self._last[engine.token] = figures
        return figures


async def report_telemetry(link: Latest[Link | None], sampler: HostSampler) -> None:
    """Send samples whenever there is a session. Returns only by cancellation."""
    while True:
        version, current = link.version, link.value
        if current is None:
            await link.newer_than(version)
            continue
        sending = asyncio.ensure_future(_send(current, sampler))
        replaced = asyncio.ensure_future(link.newer_than(version))
        try:
            await asyncio.wait((sending, replaced), return_when=asyncio.FIRST_COMPLETED)
            if not replaced.done():
                log.info("telemetry_lost", error=str(sending.exception()))
                await asyncio.wait((replaced,), timeout=RETRY_SECONDS)
        finally:
            sending.cancel()
            replaced.cancel()
            await asyncio.gather(sending, replaced, return_exceptions=True)


async def _send(link: Link, sampler: HostSampler) -> None:
    interval = max(SHORTEST_INTERVAL_SECONDS, link.welcome.telemetry_interval.ToNanoseconds() / 1e9)
    call = AgentServiceStub(link.channel).ReportTelemetry()
    loop = asyncio.get_running_loop()
    try:
        while True:
            due = loop.time() + interval
            await call.write(await sampler.sample(link.welcome.session_epoch))
            await asyncio.sleep(max(0.0, due - loop.time()))
    finally:
        call.cancel()


def with_rate(figures: ReplicaFigures, previous: ReplicaFigures | None) -> ReplicaFigures:
    """The figures with tokens per second since ``previous``; absent where it cannot be told."""
    if previous is None or not (
        figures.HasField("generation_tokens_total") and previous.HasField("generation_tokens_total")
    ):
        return figures
    seconds = (figures.at.ToNanoseconds() - previous.at.ToNanoseconds()) / 1e9
    tokens = figures.generation_tokens_total - previous.generation_tokens_total
    if seconds > 0 and tokens >= 0:
        figures.generation_tokens_per_second = tokens / seconds
    return figures


def _stale(previous: ReplicaFigures) -> ReplicaFigures:
    figures = ReplicaFigures()
    figures.CopyFrom(previous)
    figures.stale = True
    return figures
