"""A coordinator with nothing behind it: a real gRPC server that records what agents say and hands them assignments."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, Self

import grpc
from google.protobuf.duration_pb2 import Duration
from studio.v1.agent_service_pb2 import (
    AgentEvent,
    AssignmentAck,
    AssignmentNack,
    CommandProgress,
    CommandResult,
    ConnectRequest,
    ConnectResponse,
    EventAck,
    EventBatch,
    Heartbeat,
    HeartbeatAck,
    Hello,
    LogChunk,
    LogRequest,
    ObservationReport,
    ReplicaObservation,
    ReportTelemetryRequest,
    ReportTelemetryResponse,
    Welcome,
)
from studio.v1.agent_service_pb2_grpc import AgentServiceServicer, add_AgentServiceServicer_to_server
from studio.v1.assignment_pb2 import AssignedReplica, Assignment
from studio.v1.host_pb2 import Gpu
from studio.v1.replica_pb2 import Replica
from studio_runtime.channel import make_server
from studio_runtime.settings import Address

State = Replica.State


class FakeCoordinator(AgentServiceServicer):
    """``async with FakeCoordinator() as coordinator``: listens on a free port, for one agent at a time."""

    def __init__(
        self,
        *,
        heartbeat_seconds: float = 0.2,
        lease_seconds: float = 10.0,
        ack_events: bool = True,
        address: str = "127.0.0.1",
    ) -> None:
        self.heartbeat = Duration(seconds=int(heartbeat_seconds), nanos=int(heartbeat_seconds % 1 * 1e9))
        self.lease = Duration(seconds=int(lease_seconds), nanos=int(lease_seconds % 1 * 1e9))
        self.telemetry_interval = Duration(nanos=200_000_000)
        self.ack_events = ack_events
        self.answers_heartbeats = True
        self.term = 1
        self.assignment: Assignment | None = None
        # What was heard, oldest first.
        self.hellos: list[Hello] = []
        self.heartbeats: list[Heartbeat] = []
        self.answers: list[AssignmentAck | AssignmentNack] = []
        self.observed: dict[str, ReplicaObservation] = {}
        self.gpus: dict[str, Gpu] = {}
        self.history: list[tuple[str, str]] = []
        self.events: dict[int, AgentEvent] = {}
        self.log: dict[str, bytearray] = {}
        self.log_ends: dict[str, str] = {}
        self.telemetry: list[ReportTelemetryRequest] = []
        self.results: list[CommandResult] = []
        self.progress: list[CommandProgress] = []
        # The newest whole picture.
        self.observation = ObservationReport()
        self.listens_on = address
        self.port = 0
        self.connected = False
        self._outgoing: asyncio.Queue[ConnectResponse] = asyncio.Queue()
        self._heard = asyncio.Condition()
        self._server: grpc.aio.Server | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def address(self) -> str:
        return str(Address(self.listens_on, self.port))

    async def start(self) -> None:
        self._server = make_server()
        add_AgentServiceServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port(f"{self.listens_on}:{self.port}")
        assert self.port
        await self._server.start()

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(grace=None)

    # What a test tells the agent

    def assign(self, *replicas: AssignedReplica, confirmed: bool = True) -> int:
        """Hand the agent a new assignment, now or in its next Welcome; returns its generation."""
        generation = 1 if self.assignment is None else self.assignment.generation + 1
        self.assignment = Assignment(
            generation=generation, term=self.term, replicas=replicas, stops_confirmed=confirmed
        )
        self.send(ConnectResponse(assignment=self.assignment))
        return generation

    def send(self, message: ConnectResponse) -> None:
        if self.connected:
            self._outgoing.put_nowait(message)

    def pull_log(self, request_id: str, replica_id: str, *, tail_bytes: int = 1 << 20, follow: bool = False) -> None:
        request = LogRequest(request_id=request_id, replica_id=replica_id, tail_bytes=tail_bytes, follow=follow)
        self.send(ConnectResponse(log_request=request))

    # What a test waits for

    async def until(self, condition: Callable[[], Any], timeout: float = 30.0) -> Any:
        """Wait until ``condition`` holds; it is asked again after everything that is heard."""
        try:
            async with self._heard, asyncio.timeout(timeout):
                while not (result := condition()):
                    await self._heard.wait()
                return result
        except TimeoutError:
            raise AssertionError(
                f"waited {timeout} s in vain; observed {self.observed}; events {self.kinds()}"
            ) from None

    async def until_replica(
        self, replica_id: str, condition: Callable[[ReplicaObservation], bool], timeout: float = 30.0
    ) -> ReplicaObservation:
        """Wait until the replica is observed so."""

        def seen() -> ReplicaObservation | None:
            replica = self.observed.get(replica_id)
            return replica if replica is not None and condition(replica) else None

        found = await self.until(seen, timeout)
        assert isinstance(found, ReplicaObservation)
        return found

    async def until_state(self, replica_id: str, state: "State.ValueType", timeout: float = 30.0) -> ReplicaObservation:
        """Wait until the replica is in ``state``."""
        return await self.until_replica(replica_id, lambda replica: replica.state == state, timeout)

    async def until_gone(self, replica_id: str, timeout: float = 30.0) -> None:
        await self.until(lambda: replica_id not in self.observed, timeout)

    async def until_event(self, kind: str, after: int = 0, timeout: float = 30.0) -> AgentEvent:
        """Wait for an event of ``kind`` with a sequence beyond ``after``."""

        def seen() -> AgentEvent | None:
            found = (e for e in self.events.values() if e.event.kind == kind and e.sequence > after)
            return next(found, None)

        event = await self.until(seen, timeout)
        assert isinstance(event, AgentEvent)
        return event

    def kinds(self) -> list[str]:
        return [self.events[sequence].event.kind for sequence in sorted(self.events)]

    # The service

    async def Connect(  # noqa: N802 - the contract's name
        self, request_iterator: AsyncIterator[ConnectRequest], _context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[ConnectResponse]:
        first = await anext(aiter(request_iterator))
        await self._note(first)
        self._outgoing = asyncio.Queue()
        self.connected = True
        yield ConnectResponse(welcome=self._welcome())
        reader = asyncio.ensure_future(self._read(request_iterator))
        try:
            while True:
                yield await self._outgoing.get()
        finally:
            self.connected = False
            reader.cancel()

    async def ReportTelemetry(  # noqa: N802 - the contract's name
        self, request_iterator: AsyncIterator[ReportTelemetryRequest], _context: grpc.aio.ServicerContext[Any, Any]
    ) -> ReportTelemetryResponse:
        async for sample in request_iterator:
            async with self._heard:
                self.telemetry.append(sample)
                self._heard.notify_all()
        return ReportTelemetryResponse()

    def _welcome(self) -> Welcome:
        return Welcome(
            protocol=1,
            session_epoch=len(self.hellos),
            term=self.term,
            heartbeat_interval=self.heartbeat,
            lease=self.lease,
            telemetry_interval=self.telemetry_interval,
            assignment=self.assignment,
            event_sequence_acked=max(self.events, default=0) if self.ack_events else 0,
            host_name="test-host",
        )

    async def _read(self, requests: AsyncIterator[ConnectRequest]) -> None:
        async for request in requests:
            await self._note(request)

    async def _note(self, request: ConnectRequest) -> None:
        async with self._heard:
            self._take(request)
            self._heard.notify_all()

    def _take(self, request: ConnectRequest) -> None:
        match request.WhichOneof("message"):
            case "hello":
                self.hellos.append(request.hello)
                self._observe(request.hello.replicas, request.hello.gpus)
            case "heartbeat":
                self._take_heartbeat(request.heartbeat)
            case "assignment_ack" | "assignment_nack" as kind:
                self.answers.append(getattr(request, kind))
            case "observation":
                self.observation = request.observation
                self._observe(request.observation.replicas, request.observation.gpus)
            case "events":
                self._take_events(request.events)
            case "command_progress":
                self.progress.append(request.command_progress)
            case "command_result":
                self.results.append(request.command_result)
            case "log_chunk":
                self._take_log(request.log_chunk)

    def _take_heartbeat(self, heartbeat: Heartbeat) -> None:
        self.heartbeats.append(heartbeat)
        if self.answers_heartbeats:
            self._outgoing.put_nowait(ConnectResponse(heartbeat_ack=HeartbeatAck(sequence=heartbeat.sequence)))

    def _take_events(self, batch: EventBatch) -> None:
        self.events.update({event.sequence: event for event in batch.events})
        if self.ack_events:
            self._outgoing.put_nowait(ConnectResponse(event_ack=EventAck(sequence=max(self.events))))

    def _observe(self, replicas: Iterable[ReplicaObservation], gpus: Iterable[Gpu]) -> None:
        self.gpus = {gpu.uuid: gpu for gpu in gpus}
        replicas = list(replicas)
        for replica in replicas:
            step = (replica.replica_id, State.Name(replica.state).removeprefix("STATE_"))
            if [s for s in self.history if s[0] == replica.replica_id][-1:] != [step]:
                self.history.append(step)
        self.observed = {replica.replica_id: replica for replica in replicas}

    def _take_log(self, chunk: LogChunk) -> None:
        self.log.setdefault(chunk.request_id, bytearray()).extend(chunk.data)
        if chunk.end:
            self.log_ends[chunk.request_id] = chunk.error
