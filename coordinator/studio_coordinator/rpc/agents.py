"""AgentService: one control stream and one telemetry stream for each host."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Any

import grpc
import structlog
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from studio.v1.agent_service_pb2 import (
    AssignmentNack,
    ConnectRequest,
    ConnectResponse,
    EventBatch,
    GetSecretsRequest,
    GetSecretsResponse,
    Hello,
    ObservationReport,
    ReportTelemetryRequest,
    ReportTelemetryResponse,
    Welcome,
)
from studio.v1.agent_service_pb2_grpc import AgentServiceServicer
from studio.v1.event_pb2 import Event
from studio.v1.identity_service_pb2 import Identity
from studio_runtime.errors import InvalidError, OverloadedError, StudioError

from studio_coordinator.leadership import Leadership
from studio_coordinator.plan.snapshot import Timers
from studio_coordinator.rpc.guard import guarded, metadata_of, refuse
from studio_coordinator.rpc.node_secrets import HOST_ID, secrets_for_host
from studio_coordinator.rpc.peer import NodeGate, require_id
from studio_coordinator.sealing import Sealer
from studio_coordinator.sessions import Session, SessionRegistry
from studio_coordinator.store import assignments, events, hosts
from studio_coordinator.store.database import Database
from studio_coordinator.telemetry.rings import Rings
from studio_coordinator.wakeup import Wakeup

log = structlog.get_logger()

PROTOCOL = 1
# Hellos that are in the database at the same time, and those that may wait for their turn.
ADMITTED = 50
WAITING = 1000
MOST_REPLICAS = 1024
MOST_GPUS = 256
# Engine environments and cached models of a host.
MOST_ASSETS = 10_000
MOST_EVENTS = 1000
LONGEST_MESSAGE = 8192
TELEMETRY_SECONDS = 1

# Streams are read by ``context.read``, which gives gRPC's end of file at their end: the iterator that is given as well makes
# generators of generators out of it, which take memory for each of thousands of streams and time for each message.
Context = grpc.aio.ServicerContext[Any, Any]


class AgentService(AgentServiceServicer):
    """The hosts' side of the coordinator."""

    def __init__(
        self,
        database: Database,
        leadership: Leadership,
        sessions: SessionRegistry,
        timers: Timers,
        events_stored: Wakeup,
        rings: Rings,
        sealer: Sealer,
        gate: NodeGate | None = None,
    ) -> None:
        self._sealer = sealer
        # None: without TLS a host is whom it says it is.
        self._gate = gate
        self._database = database
        self._events_stored = events_stored
        self._rings = rings
        self._leadership = leadership
        self._sessions = sessions
        self._timers = timers
        self._admission = asyncio.Semaphore(ADMITTED)
        self._waiting = 0

    async def Connect(  # noqa: N802 - the contract's name
        self, request_iterator: object, context: Context
    ) -> AsyncIterator[ConnectResponse]:
        """Serve one host until either side ends the stream."""
        del request_iterator
        try:
            self._leadership.require()
            session, welcome = await self._greet(context)
        except StudioError as error:
            await refuse(context, error)
        log.info("host_connected", host=session.host_name, epoch=session.epoch)
        reader = asyncio.ensure_future(self._read(session, context))
        try:
            yield welcome
            # It may hold a whole assignment, and the stream lasts for months.
            del welcome
            async for message in session.outgoing():
                yield message
            if session.close_reason:
                await refuse(context, InvalidError(session.close_reason))
        finally:
            reader.cancel()
            self._sessions.ended(session)
            log.info("host_disconnected", host=session.host_name, reason=session.close_reason)

    async def _greet(self, context: Context) -> tuple[Session, ConnectResponse]:
        """Hear the Hello and open the session. Apart from ``Connect``, which would hold on to the Hello as long as it lasts."""
        first = await context.read()
        if not isinstance(first, ConnectRequest) or first.WhichOneof("message") != "hello":
            raise InvalidError("the first message of a control stream must be Hello")
        session, welcome = await self._admit(first.hello, context)
        return session, ConnectResponse(welcome=welcome)

    async def ReportTelemetry(  # noqa: N802 - the contract's name
        self, request_iterator: object, context: Context
    ) -> ReportTelemetryResponse:
        """Keep the newest figures of a host that has a control stream."""
        del request_iterator
        try:
            host_id = await self._admitted_host(context)
            while self._take_figures(host_id, await context.read()):
                pass
        except StudioError as error:
            await refuse(context, error)
        return ReportTelemetryResponse()

    def _take_figures(self, host_id: str, figures: object) -> bool:
        """Keep what the host ``host_id`` (empty: nobody has proven to be it) said; False at the end of the stream.

        Apart from the loop, which would hold on to each message until the next one.
        """
        if not isinstance(figures, ReportTelemetryRequest):
            return False
        _check_figures(figures)
        if host_id:
            require_id(host_id, figures.host_id, "host")
        self._sessions.take_telemetry(figures.host_id, figures)
        self._rings.take(figures.host_id, figures)
        return True

    async def _admitted_host(self, context: Context) -> str:
        """Whose figures these are, by a certificate that is not refused; empty without TLS."""
        if self._gate is None:
            return ""
        async with self._admission:
            return (await self._gate.admit(context, Identity.KIND_AGENT)).id

    @guarded
    async def GetSecrets(  # noqa: N802 - the contract's name
        self, request: GetSecretsRequest, context: Context
    ) -> GetSecretsResponse:
        """The secrets that recipes on this host name; which host it is, its certificate says."""
        self._leadership.require()
        if self._gate is not None:
            host_id = (await self._gate.admit(context, Identity.KIND_AGENT)).id
        else:
            host_id = str(metadata_of(context).get(HOST_ID, ""))
        return GetSecretsResponse(values=await secrets_for_host(self._database, self._sealer, host_id, request.names))

    async def _identify(self, hello: Hello, context: Context) -> None:
        """Write into ``hello`` who calls, by its certificate. Raises DeniedError where it says that it is another."""
        if self._gate is None:
            return
        identity = await self._gate.admit(context, Identity.KIND_AGENT)
        require_id(identity.id, hello.host_id, "host")
        await self._gate.note_instance(context, identity, hello.agent_instance_id)
        hello.host_id, hello.host_name = identity.id, identity.name

    async def _admit(self, hello: Hello, context: Context) -> tuple[Session, Welcome]:
        """Check who calls and what it says, store it, and open the session; so many at once, the rest waits or is shed."""
        if self._waiting >= WAITING:
            raise OverloadedError("too many hosts connect at once", "Agents try again by themselves.")
        self._waiting += 1
        try:
            async with self._admission:
                # All that asks the database waits here, and not for a connection of the pool, which gives up sooner.
                await self._identify(hello, context)
                _check_hello(hello)
                return await self._open(hello)
        finally:
            self._waiting -= 1

    async def _open(self, hello: Hello) -> tuple[Session, Welcome]:
        now = datetime.now(UTC)
        async with self._database.transaction() as conn:
            stored = await hosts.open_session(conn, hello, hello.host_id, now)
            assignment = await assignments.get_assignment(conn, stored.host_id)
            told = [_event(now, stored.name, "host.connected", _connected(stored.name, hello))]
            generation = assignment.generation if assignment is not None else 0
            if hello.applied_generation > generation or hello.highest_term > self._leadership.term:
                told.append(_event(now, stored.name, "host.ahead", _ahead(stored.name, hello), Event.SEVERITY_ERROR))
            await events.append(conn, told)
        self._events_stored.set()
        session = Session(stored.host_id, stored.name, stored.session_epoch)
        session.applied_generation, session.highest_term = hello.applied_generation, hello.highest_term
        session.replicas.replicas.extend(hello.replicas)
        welcome = Welcome(
            protocol=PROTOCOL,
            session_epoch=stored.session_epoch,
            term=self._leadership.term,
            heartbeat_interval=_seconds(self._timers.heartbeat_interval),
            lease=_seconds(self._timers.lease),
            telemetry_interval=Duration(seconds=TELEMETRY_SECONDS),
            event_sequence_acked=stored.event_sequence_acked,
            host_name=stored.name,
        )
        if assignment is not None:
            assignment.term = self._leadership.term
            welcome.assignment.CopyFrom(assignment)
            session.sent(assignment.generation)
        self._sessions.opened(session)
        return session, welcome

    async def _read(self, session: Session, context: Context) -> None:
        """Take what the agent says into memory. Never awaits anything but the stream."""
        try:
            while isinstance(request := await context.read(), ConnectRequest):
                self._take(session, request)
            session.close("")
        except StudioError as error:
            session.close(error.message)
        except grpc.aio.AioRpcError as error:
            session.close(f"the stream broke: {error.code().name}")

    def _take(self, session: Session, request: ConnectRequest) -> None:
        kind = request.WhichOneof("message")
        if kind == "heartbeat":
            session.heard(request.heartbeat)
        elif kind == "observation":
            session.observed(_checked_observation(request.observation))
            self._sessions.changed.set()
        elif kind == "assignment_ack":
            session.applied_generation = max(session.applied_generation, request.assignment_ack.generation)
            self._sessions.changed.set()
        elif kind == "assignment_nack":
            for event in _refusals(session.host_name, request.assignment_nack):
                log.warning(event.kind, host=event.host, replica=event.replica, message=event.message)
                self._sessions.note(event)
        elif kind == "events":
            self._sessions.take_events(session, _checked_events(request.events))
        elif kind == "log_chunk":
            session.take_log(request.log_chunk)
        elif kind in ("command_progress", "command_result"):
            session.take_command_news(getattr(request, kind))
        elif kind == "hello":
            raise InvalidError("a second Hello on one stream")


def _connected(name: str, hello: Hello) -> str:
    return f"host {name} connected: {len(hello.gpus)} GPUs, agent {hello.facts.agent_version}"


def _ahead(name: str, hello: Hello) -> str:
    return (
        f"host {name} has seen generation {hello.applied_generation} of term {hello.highest_term}, which this database does not "
        "know: it was restored from a backup, or is another one. The host keeps what runs and takes no new assignment."
    )


def _event(
    now: datetime, host: str, kind: str, message: str, severity: Event.Severity.ValueType = Event.SEVERITY_INFO
) -> Event:
    event = Event(kind=kind, severity=severity, host=host, message=message, actor="agent")
    event.at.FromDatetime(now)
    return event


def _refusals(host: str, nack: AssignmentNack) -> Iterator[Event]:
    """What a host would not do, as events: the whole document, or single replicas of it."""
    now = datetime.now(UTC)
    if not nack.replica_reasons:
        message = f"host {host} refused its assignment {nack.generation}: {nack.reason}"
        yield _event(now, host, "assignment.refused", message, Event.SEVERITY_ERROR)
    for replica_id, reason in sorted(nack.replica_reasons.items())[:MOST_REPLICAS]:
        message = f"{replica_id} on {host}: {reason}"[:LONGEST_MESSAGE]
        event = _event(now, host, "replica.refused", message, Event.SEVERITY_WARNING)
        event.replica = replica_id
        yield event


def _check_hello(hello: Hello) -> None:
    """Range checks: what a peer sends is not trusted."""
    if hello.oldest_protocol > PROTOCOL:
        raise InvalidError(
            f"this agent speaks protocol {hello.oldest_protocol} and newer, this coordinator {PROTOCOL}",
            "Upgrade the coordinator first. Engines on the host keep running.",
        )
    if not 0 < len(hello.host_id) <= 128 or not 0 < len(hello.host_name) <= 253:  # noqa: PLR2004 - a DNS name's length
        raise InvalidError("Hello names no host, or its name is too long")
    if len(hello.replicas) > MOST_REPLICAS or len(hello.gpus) > MOST_GPUS:
        raise InvalidError(f"{len(hello.gpus)} GPUs and {len(hello.replicas)} replicas on one host are out of range")
    if hello.applied_generation < 0 or hello.highest_term < 0:
        raise InvalidError("a generation or a term is negative")


def _checked_observation(observation: ObservationReport) -> ObservationReport:
    if len(observation.replicas) > MOST_REPLICAS:
        raise InvalidError(f"an observation of {len(observation.replicas)} replicas is out of range")
    if len(observation.engines) + len(observation.models) > MOST_ASSETS:
        raise InvalidError("an observation of too many environments and models")
    return observation


def _checked_events(batch: EventBatch) -> EventBatch:
    """The batch as it may be stored: bounded, and with a time where the agent gave none that can be."""
    if len(batch.events) > MOST_EVENTS:
        raise InvalidError(f"a batch of {len(batch.events)} events, at most {MOST_EVENTS}")
    for item in batch.events:
        if len(item.event.message) > LONGEST_MESSAGE:
            item.event.message = item.event.message[:LONGEST_MESSAGE] + "…"
        if not (item.event.HasField("at") and _is_in_the_calendar(item.event.at)):
            item.event.at.GetCurrentTime()
    return batch


def _is_in_the_calendar(at: Timestamp) -> bool:
    try:
        at.ToDatetime()
    except ValueError:
        return False
    return True


def _check_figures(figures: ReportTelemetryRequest) -> None:
    if len(figures.gpus) > MOST_GPUS or len(figures.replicas) > MOST_REPLICAS:
        raise InvalidError("telemetry of too many devices or replicas")


def _seconds(value: float) -> Duration:
    duration = Duration()
    duration.FromMilliseconds(round(value * 1000))
    return duration
