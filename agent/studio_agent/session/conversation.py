"""One connection: Hello, Welcome, then both directions until it ends.

Four tasks and no more: one reads, one writes (a pending write is never cancelled, except to end the connection), one feeds
heartbeats from the supervising loop's pulse, one notices changes. Nothing that arrives here touches an engine; it only becomes
the assignment in force.
"""

import asyncio
from collections.abc import AsyncIterator, Callable

import grpc
import structlog
from studio.v1.agent_service_pb2 import (
    AssignmentAck,
    AssignmentNack,
    ConnectRequest,
    ConnectResponse,
    Heartbeat,
    ObservationReport,
    Welcome,
)
from studio.v1.assignment_pb2 import Assignment
from studio.v1.identity_service_pb2 import AuthoritiesInForce

from studio_agent.commands.desk import CommandDesk
from studio_agent.errors import SessionLostError
from studio_agent.event_queue import EventQueue
from studio_agent.latest import Latest
from studio_agent.ledger import Ledger
from studio_agent.plan.assignment import Refuse
from studio_agent.session.hello import OLDEST_PROTOCOL, PROTOCOL, HostIdentity
from studio_agent.session.log_pulls import LogPulls
from studio_agent.session.outbox import Outbox
from studio_agent.settings import StateFolder
from studio_agent.supervise import Supervisor, unmet_wishes

Call = grpc.aio.StreamStreamCall[ConnectRequest, ConnectResponse]

WELCOME_TIMEOUT_SECONDS = 15.0
# The loop passes at least this often in a heartbeat interval, so that each heartbeat finds a new pulse.
PASSES_PER_HEARTBEAT = 3.0
SHORTEST_HEARTBEAT_SECONDS = 0.05

log = structlog.get_logger()


class Conversation:
    """Talks over one open call; the host's parts outlive it."""

    def __init__(
        self,
        identity: HostIdentity,
        supervisor: Supervisor,
        ledger: Ledger,
        events: EventQueue,
        state: StateFolder,
        changes: Latest[None],
        desk: CommandDesk,
        on_authorities: Callable[[AuthoritiesInForce], None] = lambda _in_force: None,
    ) -> None:
        self._identity = identity
        self._supervisor = supervisor
        self._ledger = ledger
        self._events = events
        self._state = state
        self._changes = changes
        self._desk = desk
        self._on_authorities = on_authorities
        self._heard_at = 0.0

    async def open(self, call: Call) -> Welcome:
        """Say Hello and return the Welcome. Raises SessionLostError or AioRpcError."""
        await _send(call, ConnectRequest(hello=self._identity.hello(self._ledger, self._supervisor)))
        try:
            async with asyncio.timeout(WELCOME_TIMEOUT_SECONDS):
                first = await call.read()
        except TimeoutError:
            raise SessionLostError(f"no Welcome within {WELCOME_TIMEOUT_SECONDS:.0f} s") from None
        if not isinstance(first, ConnectResponse):
            raise await _status(call)
        if first.WhichOneof("message") != "welcome":
            raise SessionLostError(f"expected Welcome, the coordinator sent {first.WhichOneof('message')}")
        if not OLDEST_PROTOCOL <= first.welcome.protocol <= PROTOCOL:
            raise SessionLostError(
                f"the coordinator speaks protocol {first.welcome.protocol}, this agent {OLDEST_PROTOCOL} to {PROTOCOL}",
                "Coordinators are upgraded first, then agents. Engines go on as they are.",
            )
        return first.welcome

    async def go_on(self, call: Call, welcome: Welcome) -> None:
        """Converse until the connection ends. Raises SessionLostError, AioRpcError, or a group of them."""
        self._events.agree(welcome.event_sequence_acked)
        # Brings the acknowledgement to disk.
        self._changes.set(None)
        outbox = Outbox(self._observe, self._events, welcome.event_sequence_acked)
        with self._desk.answering(outbox):
            async with asyncio.TaskGroup() as group:
                pulls = LogPulls(self._state, outbox, group)
                group.create_task(self._write(call, outbox), name="session writer")
                group.create_task(self._beat(outbox, welcome), name="session heartbeats")
                group.create_task(self._notice_changes(outbox), name="session observations")
                group.create_task(self._watch_lease(welcome), name="session lease")
                if welcome.HasField("assignment"):
                    await self._take_assignment(welcome.assignment, outbox)
                async for message in _messages(call):
                    self._heard_at = asyncio.get_running_loop().time()
                    await self._take(message, outbox, pulls)

    async def _take(self, message: ConnectResponse, outbox: Outbox, pulls: LogPulls) -> None:
        match message.WhichOneof("message"):
            case "assignment":
                await self._take_assignment(message.assignment, outbox)
            case "event_ack":
                self._events.ack(message.event_ack.sequence)
                self._changes.set(None)
            case "log_request":
                pulls.take(message.log_request)
            case "command":
                self._desk.take(message.command, self._ledger.highest_term)
            case "authorities":
                self._on_authorities(message.authorities)
            case "heartbeat_ack" | "welcome" | None:
                # Hearing it is all there is to it; a kind that a newer coordinator knows reads as None.
                pass

    async def _take_assignment(self, assignment: Assignment, outbox: Outbox) -> None:
        try:
            verdict = await self._supervisor.offer(assignment)
        except OSError as error:
            reason = f"it cannot be written down: {error}"
            outbox.answer(AssignmentNack(generation=assignment.generation, reason=reason, retryable=True))
            return
        if isinstance(verdict, Refuse):
            outbox.answer(AssignmentNack(generation=assignment.generation, reason=verdict.reason))
            return
        taken = AssignmentAck(generation=assignment.generation)
        if unmet := unmet_wishes(assignment):
            outbox.answer(taken, AssignmentNack(generation=assignment.generation, replica_reasons=unmet))
        else:
            outbox.answer(taken)

    async def _write(self, call: Call, outbox: Outbox) -> None:
        version = -1
        while True:
            version = await outbox.filled_since(version)
            for message in outbox.take():
                await _send(call, message)

    async def _beat(self, outbox: Outbox, welcome: Welcome) -> None:
        interval = max(_seconds(welcome.heartbeat_interval), SHORTEST_HEARTBEAT_SECONDS)
        self._supervisor.beat_every(interval / PASSES_PER_HEARTBEAT)
        seen = 0
        while True:
            # A loop that is stuck makes no pulse, and then there is no heartbeat.
            seen = await self._supervisor.pulse.newer_than(seen)
            pulse = self._supervisor.pulse.value
            heartbeat = Heartbeat(sequence=pulse.passes, applied_generation=self._ledger.applied_generation)
            heartbeat.loop_lag.FromNanoseconds(int(pulse.lag_seconds * 1e9))
            outbox.beat(heartbeat)
            await asyncio.sleep(interval)

    async def _notice_changes(self, outbox: Outbox) -> None:
        version, durable = -1, -1
        while True:
            outbox.observation_due()
            changed = asyncio.ensure_future(self._changes.newer_than(version))
            events = asyncio.ensure_future(self._events.durable.newer_than(durable))
            try:
                await asyncio.wait((changed, events), return_when=asyncio.FIRST_COMPLETED)
            finally:
                changed.cancel()
                events.cancel()
            version, durable = self._changes.version, self._events.durable.version

    async def _watch_lease(self, welcome: Welcome) -> None:
        """End a connection on which nothing is heard: the coordinator answers every heartbeat."""
        loop, lease = asyncio.get_running_loop(), _seconds(welcome.lease)
        self._heard_at = loop.time()
        while lease > 0:
            silent = loop.time() - self._heard_at
            if silent >= lease:
                raise SessionLostError(f"nothing was heard from the coordinator for {silent:.0f} s")
            await asyncio.sleep(lease - silent)

    def _observe(self) -> ObservationReport:
        return ObservationReport(
            replicas=self._supervisor.snapshot(),
            applied_generation=self._ledger.applied_generation,
            gpus=self._identity.gpus(),
            engines=self._identity.engines(),
            models=self._identity.models(),
        )


async def _send(call: Call, message: ConnectRequest) -> None:
    try:
        await call.write(message)
    except asyncio.InvalidStateError:
        # The library's word for a call that has ended.
        raise await _status(call) from None


async def _messages(call: Call) -> AsyncIterator[ConnectResponse]:
    while True:
        message = await call.read()
        if not isinstance(message, ConnectResponse):
            raise await _status(call)
        yield message


async def _status(call: Call) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(
        await call.code(), await call.initial_metadata(), await call.trailing_metadata(), await call.details()
    )


def _seconds(duration: object) -> float:
    return float(duration.ToNanoseconds()) / 1e9  # type: ignore[attr-defined]
