"""A coordinator: keeps the lease by its own clock, plans with the real plan, and may die or be frozen between any two steps."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from google.protobuf.timestamp_pb2 import Timestamp
from studio.v1.agent_service_pb2 import ReplicaObservation
from studio.v1.assignment_pb2 import Assignment
from studio.v1.host_pb2 import Host
from studio_coordinator.gateways import REMEMBERED_SECONDS
from studio_coordinator.plan.reconcile import plan
from studio_coordinator.plan.snapshot import HostObservation, Plan, Snapshot, Timers
from studio_runtime.errors import ConflictError, UnavailableError

if TYPE_CHECKING:
    from sim.gateway import SimulatedGateway
    from sim.host import SimulatedHost
    from sim.story import Story

TTL_SECONDS = 15.0
# Shorter than an installation's, in proportion.
TIMERS = Timers(heartbeat_interval=5, lease=25, lost_after=60, leader_grace=40)
# Silence after which the transport ends a stream.
STREAM_SECONDS = 40.0
GATEWAY_STREAM_SECONDS = 8.0
# Silence of a frozen process after which its peers dial another.
KEEPALIVE_SECONDS = 30.0


@dataclass
class Session:
    epoch: int
    heard_at: float
    applied: int = 0
    replicas: Mapping[str, ReplicaObservation] = field(default_factory=dict)


class SimulatedCoordinator:
    def __init__(self, story: "Story", number: int) -> None:
        self.story, self.name = story, f"c{number}"
        self.is_down = self.is_frozen = False
        self._frozen_at = 0.0
        # Of its wall clock, in seconds; what it measures spans with does not jump.
        self.skew = 0.0
        self.life = 0
        self._forget()

    def _forget(self) -> None:
        """All that dies with the process."""
        self.term = 0
        self.life += 1
        self._renewed_at = self._leading_since = 0.0
        self._sessions: dict[str, Session] = {}
        # What each has in force, (term, version), and when it was heard.
        self._gateways: dict[str, tuple[tuple[int, int], float]] = {}
        self._is_woken = False

    @property
    def leads(self) -> bool:
        if self.is_down or self.is_frozen or not self.term:
            return False
        return self.story.schedule.now - self._renewed_at < TTL_SECONDS * 2 / 3

    # -- the lease -----------------------------------------------------------------------------------------------

    def keep_lease(self) -> None:
        if self.is_down or self.is_frozen:
            return
        now = self.story.schedule.now
        try:
            held, epoch = self.story.database.acquire_or_renew(self.name, TTL_SECONDS, renews=self.term > 0)
        except UnavailableError:
            return
        if (not held and self.term) or (held and self.term and epoch > self.term + 1):
            # Another led: begin anew, with nothing in memory.
            self._forget()
        elif held:
            if epoch != self.term:
                self._leading_since = now
            self.term, self._renewed_at = epoch, now

    # -- a pass --------------------------------------------------------------------------------------------------

    def wake(self) -> None:
        if not self._is_woken:
            self._is_woken = True
            self.story.schedule.after(0.5, self.run_pass)

    def run_pass(self) -> None:
        self._is_woken = False
        if not self.leads:
            return
        try:
            snapshot = self._load()
        except UnavailableError:
            return
        decided = plan(snapshot)
        life = self.life
        if not self.story.is_calm and self.story.chance.random() < 0.04:
            # Frozen in the middle of the pass, for as long as it may be.
            self.is_frozen, self._frozen_at = True, self.story.schedule.now
            self.story.schedule.after(self.story.chance.uniform(1, 40), lambda: self._finish(snapshot, decided, life))
        else:
            self._finish(snapshot, decided, life)

    def _load(self) -> Snapshot:
        rows, now = self.story.database.reach(), self.story.schedule.now
        for host_id, session in list(self._sessions.items()):
            if now - session.heard_at > STREAM_SECONDS:
                del self._sessions[host_id]
        return Snapshot(
            now=self._wall(),
            term=self.term,
            leading_for_seconds=now - self._leading_since,
            hosts=list(rows.hosts.values()),
            observations={
                host_id: HostObservation(session.epoch, session.applied, session.replicas, now - session.heard_at)
                for host_id, session in self._sessions.items()
            },
            deployments=list(rows.deployments.values()),
            recipes=rows.recipes,
            replicas=list(rows.replicas.values()),
            assignments=dict(rows.assignments),
            table=rows.table,
            acknowledged_version=self._acknowledged_version((rows.table.term, rows.table.version)),
            timers=TIMERS,
            watches=self.story.revisions.watches(rows.deployments.values(), now),
        )

    def _finish(self, snapshot: Snapshot, decided: Plan, life: int) -> None:
        if self.life != life or self.is_down:
            return
        self.is_frozen = False
        if not decided.is_empty:
            if self.story.crash_by_chance():
                self.crash()
                return
            try:
                self.story.database.commit(
                    snapshot.term,
                    decided,
                    {deployment.name: deployment.version for deployment in snapshot.deployments},
                    lambda rows: self.story.promises.at_commit(rows, snapshot, decided),
                )
            except (ConflictError, UnavailableError):
                self.wake()
                return
            if self.story.crash_by_chance():
                self.crash()
                return
            self.wake()
        self._publish(snapshot, decided)

    def _publish(self, snapshot: Snapshot, decided: Plan) -> None:
        documents = {**snapshot.assignments, **decided.assignments}
        for host_id, session in self._sessions.items():
            document = documents.get(host_id)
            if document is not None and document.generation > session.applied:
                self._hand_out(host_id, document, snapshot.term)
        table = decided.table if decided.table is not None else snapshot.table
        for gateway in self.story.gateways:
            if gateway.name in self._gateways and self._gateways[gateway.name][0] < (table.term, table.version):
                self._send_table(gateway, table)

    def _hand_out(self, host_id: str, document: Assignment, term: int) -> None:
        host = self.story.host(host_id)
        told = Assignment()
        told.CopyFrom(document)
        told.term = term
        self.story.network.send(self.name, host.name, lambda: host.offer(told))

    def _send_table(self, gateway: "SimulatedGateway", table: object) -> None:
        self.story.network.send(self.name, gateway.name, lambda: gateway.offer(self, table))

    # -- what others say -----------------------------------------------------------------------------------------

    @property
    def _answers(self) -> bool:
        return not self.is_down and not (
            self.is_frozen and self.story.schedule.now - self._frozen_at > KEEPALIVE_SECONDS
        )

    def is_open_to(self, host_id: str) -> bool:
        return self._answers and host_id in self._sessions

    def hello(self, host: "SimulatedHost") -> None:
        if not self.leads:
            return
        try:
            rows = self.story.database.reach()
        except UnavailableError:
            return
        epoch = rows.session_epochs[host.id] = rows.session_epochs.get(host.id, 0) + 1
        row = Host()
        row.CopyFrom(rows.hosts[host.id])
        row.state, row.state_reason = Host.STATE_CONNECTED, "its session is open"
        row.last_seen.CopyFrom(self._stamp(0))
        rows.hosts[host.id] = row
        self._sessions[host.id] = Session(epoch, self.story.schedule.now, host.applied_generation, host.picture())
        if host.id in rows.assignments:
            self._hand_out(host.id, rows.assignments[host.id], self.term)
        self.wake()

    def hears(self, host_id: str) -> bool:
        session = self._sessions.get(host_id)
        return self.leads and session is not None and self.story.schedule.now - session.heard_at < TIMERS.lease

    def hang_up(self, host_id: str) -> None:
        self._sessions.pop(host_id, None)

    def heard(self, host_id: str, sent: float, applied: int, replicas: Mapping[str, ReplicaObservation]) -> None:
        session = self._sessions.get(host_id)
        # One stream keeps its order: what was overtaken is no news.
        if self.is_down or self.is_frozen or session is None or sent < session.heard_at:
            return
        self._sessions[host_id] = replace(
            session, heard_at=sent, applied=max(applied, session.applied), replicas=replicas
        )
        self.wake()

    def keep_last_seen(self) -> None:
        if not self.leads or self.story.database.is_away:
            return
        rows = self.story.database.reach()
        for host_id, session in self._sessions.items():
            row = Host()
            row.CopyFrom(rows.hosts[host_id])
            row.last_seen.CopyFrom(self._stamp(self.story.schedule.now - session.heard_at))
            rows.hosts[host_id] = row

    def knows_gateway(self, name: str) -> bool:
        return self._answers and name in self._gateways

    def gateway_opened(self, gateway: "SimulatedGateway") -> None:
        if self.leads:
            self._gateways[gateway.name] = ((0, -1), self.story.schedule.now)
            self._send_table(gateway, self.story.database.rows.table)
            self.wake()

    def acknowledged(self, name: str, has: tuple[int, int]) -> None:
        if not self.is_down and not self.is_frozen and name in self._gateways:
            self._gateways[name] = (has, self.story.schedule.now)
            self.wake()

    def _acknowledged_version(self, newest: tuple[int, int]) -> int | None:
        now = self.story.schedule.now
        for name, (_, heard_at) in list(self._gateways.items()):
            if now - heard_at > GATEWAY_STREAM_SECONDS + REMEMBERED_SECONDS:
                del self._gateways[name]
        return min((has[1] if has <= newest else -1 for has, _ in self._gateways.values()), default=None)

    # -- faults --------------------------------------------------------------------------------------------------

    def crash(self) -> None:
        """kill -9; its unit starts it again."""
        self.is_down, self.is_frozen = True, False
        self._forget()
        self.story.schedule.after(self.story.chance.uniform(1, 10), self._come_back)

    def _come_back(self) -> None:
        self.is_down = False

    def _wall(self):
        return self.story.schedule.wall() + timedelta(seconds=self.skew)

    def _stamp(self, age: float) -> Timestamp:
        stamp = Timestamp()
        stamp.FromDatetime(self._wall() - timedelta(seconds=age))
        return stamp
