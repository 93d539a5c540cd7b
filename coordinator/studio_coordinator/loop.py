"""The leader's loop: load a snapshot, plan, commit in one short transaction, publish.

Level-triggered: sessions, gateways, operators and a poll only wake it. A pass that fails changes nothing and is tried again;
there is no retry inside. It reads and writes through a ledger (`studio_coordinator.ledger`), whose transaction is guarded by the
lease's epoch and by each row's version, so a pass that was overtaken is void.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import structlog
from prometheus_client import Counter, Gauge, Histogram
from studio.v1.assignment_pb2 import Assignment
from studio.v1.event_pb2 import Event
from studio.v1.route_pb2 import AccessTable, RouteTable
from studio_runtime.errors import ConflictError, UnavailableError

from studio_coordinator.gateways import GatewayRegistry
from studio_coordinator.leadership import Leadership
from studio_coordinator.ledger import Ledger
from studio_coordinator.plan.reconcile import plan
from studio_coordinator.plan.snapshot import Plan, Snapshot
from studio_coordinator.sessions import SessionRegistry
from studio_coordinator.wakeup import Wakeup

log = structlog.get_logger()

POLL_SECONDS = 2.0
# A pass that had something to do is followed by another after this: what came up meanwhile is somebody's wait.
SHORTEST_PAUSE_SECONDS = 0.005
# Between passes that take longer than this lies as much time as they took, up to the other.
LONG_PASS_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 0.25

PASSES = Counter("studio_coordinator_passes_total", "Passes of the leader loop", ["outcome"])
PASS_SECONDS = Histogram("studio_coordinator_pass_seconds", "Length of a pass of the leader loop")
CONNECTED_HOSTS = Gauge("studio_coordinator_connected_hosts", "Hosts with an open session")
LEADER = Gauge("studio_coordinator_leader", "1 while this process leads")


@dataclass
class LeaderLoop:
    """The one writer of hosts' states, replicas, assignments and the route table."""

    ledger: Ledger
    sessions: SessionRegistry
    gateways: GatewayRegistry
    # Told of every pass: what the leader sees, and the routes in force.
    show: Callable[[Snapshot, RouteTable], None]
    # Set by whoever changed the desired state.
    desired_changed: Wakeup = field(default_factory=Wakeup)
    # Set after events were stored.
    events_stored: Wakeup = field(default_factory=Wakeup)
    _told_held_back: Mapping[str, Sequence[str]] = field(default_factory=dict)

    async def run(self, leadership: Leadership) -> None:
        """Pass after pass, for as long as this process leads."""
        while True:
            tickets = [
                source.ticket()
                for source in (
                    self.desired_changed,
                    self.sessions.changed,
                    self.gateways.changed,
                    leadership.changed,
                    self.ledger.changed,
                )
            ]
            LEADER.set(leadership.is_leader)
            if leadership.is_leader:
                started = time.monotonic()
                again = await self._guarded_pass()
                # While thousands of hosts connect there is a reason for a pass at any time; they need the process as well.
                took = time.monotonic() - started
                if took > LONG_PASS_SECONDS:
                    await asyncio.sleep(min(took, LONGEST_PAUSE_SECONDS))
                elif again:
                    await asyncio.sleep(SHORTEST_PAUSE_SECONDS)
                if again:
                    continue
            await _wait_for_any(tickets, POLL_SECONDS)

    async def _guarded_pass(self) -> bool:
        """One pass; whether another should follow at once. What fails is logged: the next pass is the retry."""
        started = time.monotonic()
        try:
            decided = await self.one_pass()
        except ConflictError as error:
            # A row changed between load and commit: look again.
            PASSES.labels("overtaken").inc()
            log.info("pass_overtaken", reason=error.message)
            return True
        except UnavailableError as error:
            PASSES.labels("failed").inc()
            log.warning("pass_failed", reason=error.message)
            return False
        except Exception:
            # A defect must not end the sessions of every host; the poll tries again, and the log says what is wrong.
            PASSES.labels("failed").inc()
            log.exception("pass_failed")
            return False
        PASS_SECONDS.observe(time.monotonic() - started)
        PASSES.labels("empty" if decided.is_empty else "changed").inc()
        return not decided.is_empty

    async def one_pass(self) -> Plan:
        """Load, plan, commit, publish; what was decided. Raises what the ledger raises, and then nothing was published."""
        loaded = await self.ledger.load()
        snapshot = loaded.snapshot
        decided = plan(snapshot)
        if not decided.is_empty:
            await self.ledger.commit(snapshot, decided)
            self._tell(decided)
        await self._tell_held_back(decided)
        self._publish(snapshot, decided, loaded.access)
        return decided

    async def _tell_held_back(self, decided: Plan) -> None:
        """An event when what is held back changes: a pass after the other finds the same."""
        if decided.held_back == self._told_held_back:
            return
        if decided.held_back:
            named = [f"{', '.join(ids)} on {host}" for host, ids in decided.held_back.items()]
            event = Event(
                severity=Event.SEVERITY_ERROR,
                kind="assignment.refused",
                reason="mass_stop",
                message=f"not stopped, though nothing in the database wants them: {'; '.join(named)}. "
                "Were rows lost? Restore them, or apply the recipe again.",
                actor="plan",
            )
            event.at.GetCurrentTime()
            await self.ledger.append(event)
            self.events_stored.set()
        self._told_held_back = decided.held_back

    def _publish(self, snapshot: Snapshot, decided: Plan, access_table: AccessTable) -> None:
        """Hand out what is committed; who has it already is not told twice."""
        CONNECTED_HOSTS.set(len(self.sessions))
        table = decided.table if decided.table is not None else snapshot.table
        self.show(snapshot, table)
        self.gateways.publish_access(access_table)
        self.gateways.publish_routes(table)
        documents: dict[str, Assignment] = {**snapshot.assignments, **decided.assignments}
        for session in self.sessions.all():
            if session.host_id in documents:
                document = documents[session.host_id]
                # An earlier leader may have written it; what counts for the agent is who hands it out. A newer term than the
                # pass began with is one that an operator's word has just raised.
                document.term = max(document.term, snapshot.term)
                session.offer(document)

    def _tell(self, decided: Plan) -> None:
        for event in decided.events:
            log.info(event.kind, message=event.message, host=event.host, replica=event.replica)
        if decided.events:
            self.events_stored.set()


async def _wait_for_any(tickets: list[asyncio.Event], at_most_seconds: float) -> None:
    """Wait until one of the events is set, or for so long."""
    waits = [asyncio.ensure_future(ticket.wait()) for ticket in tickets]
    try:
        await asyncio.wait(waits, timeout=at_most_seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
