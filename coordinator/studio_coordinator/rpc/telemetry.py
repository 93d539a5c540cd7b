"""TelemetryService: the live picture, and series over time."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from datetime import UTC
from typing import Any

import grpc
import structlog
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from studio.v1.replica_pb2 import Replica
from studio.v1.telemetry_service_pb2 import (
    GetHistoryRequest,
    GetHistoryResponse,
    Point,
    Series,
    SeriesName,
    WatchTelemetryRequest,
    WatchTelemetryResponse,
)
from studio.v1.telemetry_service_pb2_grpc import TelemetryServiceServicer
from studio_runtime.errors import InvalidError, StudioError, UnavailableError

from studio_coordinator.plan.status import with_state
from studio_coordinator.rpc.guard import guarded, refuse
from studio_coordinator.sessions import SessionRegistry
from studio_coordinator.store import deployments, hosts, replicas
from studio_coordinator.store.database import Database
from studio_coordinator.telemetry.history import History, Sample, known_series, window_for
from studio_coordinator.telemetry.picture import Picture, Rows
from studio_coordinator.telemetry.rings import Rings

log = structlog.get_logger()

Context = grpc.aio.ServicerContext[Any, Any]

SHORTEST_INTERVAL_SECONDS = 0.2
LONGEST_INTERVAL_SECONDS = 60.0
# All watchers share what is stored, read this often while somebody watches.
ROWS_SECONDS = 2.0
DEFAULT_HISTORY_SECONDS = 900


class StoredRows:
    """What is stored of the fleet, at most ``ROWS_SECONDS`` old; older while the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._rows = Rows((), (), ())
        self._read_at = -ROWS_SECONDS
        self._reading = asyncio.Lock()

    async def newest(self) -> Rows:
        """The rows; UnavailableError where they were never read."""
        async with self._reading:
            now = asyncio.get_running_loop().time()
            if now - self._read_at >= ROWS_SECONDS:
                try:
                    self._rows = await self._read()
                except UnavailableError as error:
                    if not self._rows.hosts:
                        raise
                    log.warning("rows_not_read", reason=error.message)
                self._read_at = now
            return self._rows

    async def _read(self) -> Rows:
        async with self._database.transaction() as conn:
            found = await hosts.list_hosts(conn)
            rows = await replicas.list_replicas(conn)
            wanted = await deployments.list_deployments(conn)
        own: dict[str, list[Replica]] = defaultdict(list)
        for row in rows:
            own[row.deployment].append(row)
        return Rows(found, rows, [with_state(item, own[item.name]) for item in wanted])


class TelemetryService(TelemetryServiceServicer):
    """For ``studio top``, the console and whoever draws charts."""

    def __init__(self, database: Database, sessions: SessionRegistry, rings: Rings) -> None:
        self._sessions = sessions
        self._rings = rings
        self._rows = StoredRows(database)
        self._history = History(rings, database)

    async def WatchTelemetry(  # noqa: N802 - the contract's name
        self, request: WatchTelemetryRequest, context: Context
    ) -> AsyncIterator[WatchTelemetryResponse]:
        """The picture, then its changes. The next one is made when the reader has taken the last."""
        loop, picture = asyncio.get_running_loop(), Picture()
        asked = request.interval.ToNanoseconds() / 1e9 if request.HasField("interval") else 1.0
        interval = min(max(asked, SHORTEST_INTERVAL_SECONDS), LONGEST_INTERVAL_SECONDS)
        try:
            while True:
                due = loop.time() + interval
                rows = await self._rows.newest()
                if request.hosts:
                    rows = rows.of_hosts(set(request.hosts))
                for message in picture.changes(rows, self._sessions.telemetry):
                    message.at.GetCurrentTime()
                    yield message
                await asyncio.sleep(due - loop.time())
        except StudioError as error:
            await refuse(context, error)

    @guarded
    async def GetHistory(self, request: GetHistoryRequest, _context: Context) -> GetHistoryResponse:  # noqa: N802
        """Points of each series, oldest first; what is unknown is left out."""
        if not request.series:
            raise InvalidError("no series is named", "Name at least one: kind, id and field.")
        now = self._rings.clock()
        since = _seconds(request.since) if request.HasField("since") else now - DEFAULT_HISTORY_SECONDS
        until = _seconds(request.until) if request.HasField("until") else 0
        window = window_for(now, since, until, max(0, request.step.seconds))
        wanted = [known_series(name.kind, name.id, name.field) for name in request.series]
        found = await self._history.read(wanted, window)
        return GetHistoryResponse(
            series=[
                Series(
                    name=SeriesName(kind=series.kind, id=series.id, field=series.field),
                    step=Duration(seconds=window.step),
                    points=[_point(sample) for sample in found[series]],
                )
                for series in wanted
            ]
        )


def _seconds(at: Timestamp) -> int:
    try:
        return int(at.ToDatetime(tzinfo=UTC).timestamp())
    except ValueError as error:
        raise InvalidError(f"a time that is in no calendar: {error}") from error


def _point(sample: Sample) -> Point:
    return Point(at=Timestamp(seconds=sample.at), mean=sample.mean, max=sample.highest)
