"""The open control streams of hosts, in memory: what each said last, and what it is to be told.

The reader of a stream only writes here, never to the database; the leader loop reads from here. What goes out is kept in slots
of one (the newest assignment, the newest acknowledgement), so that a slow peer costs nothing but its own delay.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from operator import itemgetter
from uuid import uuid4

from studio.v1.agent_service_pb2 import (
    Command,
    CommandProgress,
    CommandResult,
    ConnectResponse,
    EventAck,
    EventBatch,
    Heartbeat,
    HeartbeatAck,
    LogChunk,
    LogRequest,
    ObservationReport,
    ReplicaObservation,
    ReportTelemetryRequest,
)
from studio.v1.assignment_pb2 import Assignment
from studio.v1.event_pb2 import Event
from studio.v1.host_pb2 import Gpu
from studio.v1.identity_service_pb2 import AuthoritiesInForce
from studio_runtime.errors import NotFoundError, OverloadedError, UnavailableError

from studio_coordinator.command_watch import CommandWatch
from studio_coordinator.plan.snapshot import HostObservation
from studio_coordinator.wakeup import Wakeup

# Batches of events that wait for the database; an agent sends what was not acknowledged again.
EVENT_BACKLOG = 256
LOG_BACKLOG = 64


class Session:
    """One host's open control stream; ``clock`` is monotonic, in seconds."""

    def __init__(self, host_id: str, host_name: str, epoch: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.host_id = host_id
        self.host_name = host_name
        self.epoch = epoch
        self.is_closed = False
        self.close_reason = ""
        self.applied_generation = 0
        # Of any leader, by the agent's word.
        self.highest_term = 0
        self.replicas: ObservationReport = ObservationReport()
        # Of the same, made when it is first asked for.
        self._by_id: Mapping[str, ReplicaObservation] | None = None
        # Before its first observation nothing is known of what is installed and cached there.
        self.has_observed = False
        # Of its newest figures; no two reports have the same one.
        self.figures_stamp = 0
        self.gpus: list[Gpu] = []
        self._gpus_changed = False
        self._clock = clock
        self._opened_at = self._heard_at = clock()
        self._wake = asyncio.Event()
        self._assignment: Assignment | None = None
        self._authorities: AuthoritiesInForce | None = None
        self._sent_generation = -1
        self._event_ack = 0
        self._heartbeat_ack = 0
        # Lists: nearly always empty, and an empty deque takes half a kilobyte for each host.
        self._log_requests: list[LogRequest] = []
        self._to_run: list[Command] = []
        self._commands: dict[str, CommandWatch] = {}
        self._logs: dict[str, asyncio.Queue[LogChunk]] = {}

    def heard(self, heartbeat: Heartbeat) -> None:
        """Renew the lease: only the agent's supervising loop makes heartbeats."""
        self._heard_at = self._clock()
        self.applied_generation = max(self.applied_generation, heartbeat.applied_generation)
        self._heartbeat_ack = heartbeat.sequence
        self._wake.set()

    def observed(self, report: ObservationReport) -> None:
        """Take the host's newest picture of itself."""
        self.replicas, self.has_observed = report, True
        self._by_id = None
        if report.gpus and list(report.gpus) != self.gpus:
            self.gpus, self._gpus_changed = list(report.gpus), True
        self.applied_generation = max(self.applied_generation, report.applied_generation)

    def offer(self, assignment: Assignment) -> None:
        """Hand the host its newest document; one that it has been handed already is not sent again."""
        if assignment.generation > self._sent_generation:
            self._assignment = assignment
            self._wake.set()

    def sent(self, generation: int) -> None:
        """Note that the host was handed this generation in its Welcome."""
        self._sent_generation = max(self._sent_generation, generation)

    def acknowledge_events(self, sequence: int) -> None:
        """Tell the agent that events up to ``sequence`` are stored."""
        if sequence > self._event_ack:
            self._event_ack = sequence
            self._wake.set()

    def tell_authorities(self, in_force: AuthoritiesInForce) -> None:
        """Tell the agent which authorities count; what it was told already is not said again."""
        if self._authorities != in_force:
            self._authorities = in_force
            self._wake.set()

    def close(self, reason: str) -> None:
        """End the stream, whoever serves it."""
        self.close_reason = reason
        self.is_closed = True
        self._wake.set()
        for watch in self._commands.values():
            watch.session_over()
        for request_id in self._logs:
            self._break_log(request_id, "the host disconnected")

    def silence_seconds(self) -> float:
        """Time since the last heartbeat."""
        return self._clock() - self._heard_at

    def heard_since(self, at: float) -> bool:
        """Whether there was a heartbeat at or after ``at``, by the monotonic clock."""
        return self._heard_at >= at

    def gpus_to_store(self) -> list[Gpu] | None:
        """The host's GPUs when they are not in the database as they are now; None when they are."""
        return self.gpus if self._gpus_changed else None

    def gpus_stored(self, gpus: list[Gpu]) -> None:
        """Note that ``gpus`` are in the database."""
        if gpus is self.gpus:
            self._gpus_changed = False

    def observation(self) -> HostObservation:
        """What the plan looks at."""
        if self._by_id is None:
            self._by_id = {item.replica_id: item for item in self.replicas.replicas}
        return HostObservation(
            session_epoch=self.epoch,
            applied_generation=self.applied_generation,
            replicas=self._by_id,
            heartbeat_age_seconds=self.silence_seconds(),
            session_age_seconds=self._clock() - self._opened_at,
        )

    async def outgoing(self) -> AsyncIterator[ConnectResponse]:
        """What to send, as it comes up, until the session is closed."""
        sent_event_ack = sent_heartbeat_ack = 0
        sent_authorities: AuthoritiesInForce | None = None
        while not self.is_closed:
            await self._wake.wait()
            self._wake.clear()
            if self._assignment is not None:
                assignment, self._assignment = self._assignment, None
                self._sent_generation = assignment.generation
                yield ConnectResponse(assignment=assignment)
            if self._event_ack > sent_event_ack:
                sent_event_ack = self._event_ack
                yield ConnectResponse(event_ack=EventAck(sequence=sent_event_ack))
            if self._heartbeat_ack != sent_heartbeat_ack:
                sent_heartbeat_ack = self._heartbeat_ack
                yield ConnectResponse(heartbeat_ack=HeartbeatAck(sequence=sent_heartbeat_ack))
            if self._authorities is not sent_authorities and self._authorities is not None:
                sent_authorities = self._authorities
                yield ConnectResponse(authorities=sent_authorities)
            while self._log_requests:
                yield ConnectResponse(log_request=self._log_requests.pop(0))
            while self._to_run:
                yield ConnectResponse(command=self._to_run.pop(0))

    @asynccontextmanager
    async def pull_log(
        self, replica_id: str, tail_bytes: int, *, follow: bool
    ) -> AsyncIterator[asyncio.Queue[LogChunk]]:
        """Have the agent send a replica's log; chunks come out of the queue until one says ``end``."""
        request_id = uuid4().hex
        queue: asyncio.Queue[LogChunk] = asyncio.Queue(LOG_BACKLOG)
        self._logs[request_id] = queue
        self._ask(LogRequest(request_id=request_id, replica_id=replica_id, tail_bytes=tail_bytes, follow=follow))
        if self.is_closed:
            self._break_log(request_id, "the host disconnected")
        try:
            yield queue
        finally:
            del self._logs[request_id]
            self._ask(LogRequest(request_id=request_id, cancel=True))

    @asynccontextmanager
    async def run_command(self, command: Command) -> AsyncIterator[CommandWatch]:
        """Hand the host a command; the watch hears of it while the block runs."""
        watch = self._commands[command.command_id] = CommandWatch()
        self._to_run.append(command)
        self._wake.set()
        if self.is_closed:
            watch.session_over()
        try:
            yield watch
        finally:
            del self._commands[command.command_id]

    def take_command_news(self, said: CommandProgress | CommandResult) -> None:
        """Pass on how far a command is, or how it ended, where anybody still asks."""
        if (watch := self._commands.get(said.command_id)) is not None:
            watch.take(said)

    def _ask(self, request: LogRequest) -> None:
        self._log_requests.append(request)
        del self._log_requests[:-LOG_BACKLOG]
        self._wake.set()

    def take_log(self, chunk: LogChunk) -> None:
        """Pass a chunk to whoever asked. A reader that is too slow loses the stream, not the coordinator its memory."""
        queue = self._logs.get(chunk.request_id)
        if queue is None:
            return
        try:
            queue.put_nowait(chunk)
        except asyncio.QueueFull:
            self._break_log(chunk.request_id, "the reader was too slow")

    def _break_log(self, request_id: str, reason: str) -> None:
        """End a log for its reader, whatever else waits there."""
        queue = self._logs[request_id]
        if queue.full():
            queue.get_nowait()
        queue.put_nowait(LogChunk(request_id=request_id, end=True, error=reason))


class SessionRegistry:
    """All open sessions of this coordinator, one for each host."""

    def __init__(self) -> None:
        self.changed = Wakeup()
        self.events: asyncio.Queue[tuple[Session, EventBatch]] = asyncio.Queue(EVENT_BACKLOG)
        # What this coordinator has to say of sessions; the oldest give way.
        self.notes: deque[Event] = deque(maxlen=EVENT_BACKLOG)
        self.noted = Wakeup()
        # Sessions since this process began.
        self.ever_opened = 0
        self.ever_ended = 0
        self._sessions: dict[str, Session] = {}
        # As they go over the wire: as messages they take five times the memory, and a microsecond to make again.
        self._telemetry: dict[str, bytes] = {}
        self._stamp = 0

    def __len__(self) -> int:
        return len(self._sessions)

    def opened(self, session: Session) -> None:
        """Make ``session`` the host's; an older one of the same host is closed."""
        older = self._sessions.get(session.host_id)
        if older is not None:
            older.close("a newer session of this host was opened")
        self._sessions[session.host_id] = session
        self.ever_opened += 1
        self.changed.set()

    def ended(self, session: Session) -> None:
        """Forget ``session``, unless the host has a newer one already."""
        if self._sessions.get(session.host_id) is session:
            del self._sessions[session.host_id]
            self._telemetry.pop(session.host_id, None)
            self.changed.set()
        self.ever_ended += 1
        session.close(session.close_reason)

    def get(self, host_id: str) -> Session:
        """The host's session; UnavailableError when it has none."""
        session = self._sessions.get(host_id)
        if session is None:
            raise UnavailableError("the host is not connected", "See studio hosts; its agent dials in by itself.")
        return session

    def cut(self, host_id: str, reason: str) -> None:
        """End the host's session, where it has one."""
        session = self._sessions.get(host_id)
        if session is not None and not session.is_closed:
            session.close(reason)

    def last_observation(self, host_id: str) -> ObservationReport | None:
        """What a connected host said last of itself; None where it has not yet said it."""
        session = self._sessions.get(host_id)
        return session.replicas if session is not None and session.has_observed else None

    def last_words(self, host_id: str) -> tuple[ObservationReport | None, int]:
        """``last_observation``, and a number that is another whenever the host's newest figures are; 0 while it has none."""
        session = self._sessions.get(host_id)
        if session is None:
            return None, 0
        return session.replicas if session.has_observed else None, session.figures_stamp

    def heard_within(self, seconds: float) -> set[str]:
        """Ids of the hosts whose last heartbeat is no older."""
        since = time.monotonic() - seconds
        return {session.host_id for session in self._sessions.values() if session.heard_since(since)}

    def all(self) -> list[Session]:
        """Every open session."""
        return list(self._sessions.values())

    def take_events(self, session: Session, batch: EventBatch) -> None:
        """Queue events for the database; OverloadedError ends the stream, and the agent sends them again later."""
        try:
            self.events.put_nowait((session, batch))
        except asyncio.QueueFull:
            raise OverloadedError("events wait for the database") from None

    def note(self, event: Event) -> None:
        """Have an event stored soon; never waits."""
        self.notes.append(event)
        self.noted.set()

    def take_telemetry(self, host_id: str, figures: ReportTelemetryRequest) -> None:
        """Keep the newest figures of a connected host."""
        session = self._sessions.get(host_id)
        if session is None or session.epoch != figures.session_epoch:
            raise NotFoundError(f"host {host_id!r} has no open session with epoch {figures.session_epoch}")
        self._telemetry[host_id] = figures.SerializeToString()
        self._stamp += 1
        session.figures_stamp = self._stamp

    def reports(self) -> list[tuple[str, ReportTelemetryRequest]]:
        """The newest figures of every connected host, by its name, in the order of names. May be called from any thread."""
        names = {session.host_id: session.host_name for session in list(self._sessions.values())}
        return sorted(
            (
                (names.get(host_id, host_id), ReportTelemetryRequest.FromString(said))
                for host_id, said in list(self._telemetry.items())
            ),
            key=itemgetter(0),
        )

    def telemetry(self, host_id: str) -> ReportTelemetryRequest:
        """The newest figures of a host, as a message of the caller's own; empty when there are none."""
        return ReportTelemetryRequest.FromString(self._telemetry.get(host_id, b""))
