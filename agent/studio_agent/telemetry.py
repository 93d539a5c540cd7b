"""The latest figures of host, GPUs and replicas, on a stream of their own.

A sample is made when it is sent; while the coordinator does not read, none is made and none waits. Supervision never waits for
anything here.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping

import structlog
from google.protobuf.timestamp_pb2 import Timestamp
from studio.v1.agent_service_pb2 import ReportTelemetryRequest
from studio.v1.agent_service_pb2_grpc import AgentServiceStub
from studio.v1.host_pb2 import GpuFigures
from studio.v1.replica_pb2 import ReplicaFigures

from studio_agent.host_figures import host_figures
from studio_agent.latest import Latest
from studio_agent.link import Link
from studio_agent.plan.record import ReplicaRecord, State
from studio_agent.settings import AgentSettings
from studio_agent.supervise.readings import Readings

SHORTEST_INTERVAL_SECONDS = 0.1
RETRY_SECONDS = 2.0
# Figures that were not renewed for so many looks at an engine are stale.
FRESH_LOOKS = 3.0
SERVING = frozenset({State.STATE_READY, State.STATE_DRAINING})

log = structlog.get_logger()


class HostSampler:
    """Makes samples: what the host, its GPUs and its engines do. Nothing here waits for an engine."""

    def __init__(
        self,
        settings: AgentSettings,
        host_id: str,
        readings: Readings,
        records: Callable[[], Mapping[str, ReplicaRecord]],
        gpus: Callable[[], dict[str, GpuFigures]],
        gpus_seen: Callable[[Mapping[str, GpuFigures]], None],
    ) -> None:
        """``gpus_seen``: told the figures of the GPUs that a sample has."""
        self._settings = settings
        self._host_id = host_id
        self._readings = readings
        self._records = records
        self._gpus = gpus
        self._gpus_seen = gpus_seen

    async def sample(self, session_epoch: int) -> ReportTelemetryRequest:
        """One sample; what cannot be read is absent or marked stale."""
        at = Timestamp()
        at.GetCurrentTime()
        host = await asyncio.to_thread(host_figures, self._settings.models, at)
        gpus = self._gpus()
        self._gpus_seen(gpus)
        return ReportTelemetryRequest(
            session_epoch=session_epoch,
            host_id=self._host_id,
            host=host,
            gpus=gpus,
            replicas=dict(self._replicas(at.ToNanoseconds() / 1e9)),
        )

    def _replicas(self, now: float) -> Iterator[tuple[str, ReplicaFigures]]:
        fresh_seconds = FRESH_LOOKS * self._settings.health.look_seconds
        for record in self._records().values():
            if record.engine is None or record.state not in SERVING:
                continue
            figures = self._readings.latest(record.engine.token, now, fresh_seconds)
            if figures is not None:
                yield record.replica_id, figures


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
    call = AgentServiceStub(link.channel).ReportTelemetry(metadata=link.metadata)
    loop = asyncio.get_running_loop()
    try:
        while True:
            due = loop.time() + interval
            await call.write(await sampler.sample(link.welcome.session_epoch))
            await asyncio.sleep(max(0.0, due - loop.time()))
    finally:
        call.cancel()
