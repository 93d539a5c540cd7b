"""The ledger of the leader's loop, in memory: the real loop runs over it, and its process may die or freeze at every step."""

from typing import TYPE_CHECKING

from studio.v1.assignment_pb2 import Assignment
from studio.v1.event_pb2 import Event
from studio.v1.host_pb2 import Host
from studio.v1.route_pb2 import AccessTable
from studio_coordinator.ledger import Loaded
from studio_coordinator.plan.shape import Shape
from studio_coordinator.plan.snapshot import Plan, Snapshot, Timers
from studio_coordinator.wakeup import Wakeup
from studio_runtime.errors import UnavailableError

if TYPE_CHECKING:
    from sim.leader import Life
    from sim.story import Story

# Shorter than an installation's, in proportion.
TIMERS = Timers(heartbeat_interval=5, lease=25, lost_after=60, leader_grace=40)
LOST_ANSWERS = 0.01


class MemoryLedger:
    """`Ledger` over the simulated database, for one life of a coordinator."""

    def __init__(self, story: "Story", life: "Life") -> None:
        self._story, self._life = story, life
        self.changed = Wakeup()
        self._shapes: dict[str, Shape] = {}

    async def load(self) -> Loaded:
        await self._life.step()
        rows = self._story.database.reach()
        life, now = self._life, self._story.schedule.now
        wanted = list(rows.deployments.values())
        if life.demand.term != life.term:
            life.demand.begin(life.term, rows.last_requests, life.wall())
        gateways = life.gateways
        snapshot = Snapshot(
            now=life.wall(),
            term=life.term,
            leading_for_seconds=life.leading_for_seconds,
            hosts=list(rows.hosts.values()),
            observations={session.host_id: session.observation() for session in life.sessions.all()},
            deployments=wanted,
            recipes=rows.recipes,
            replicas=list(rows.replicas.values()),
            assignments={host_id: self._own(document) for host_id, document in rows.assignments.items()},
            table=rows.table,
            acknowledged_version=gateways.acknowledged_version(),
            timers=TIMERS,
            shapes=self._shapes_of(rows.hosts),
            demands=life.demand.demands(wanted, rows.recipes, gateways.heard(), all_known=gateways.traffic_is_whole()),
            watches=self._story.revisions.watches(wanted, now),
        )
        return Loaded(snapshot, AccessTable())

    async def commit(self, snapshot: Snapshot, decided: Plan) -> None:
        story = self._story
        await self._life.step()
        story.database.commit(snapshot, decided, lambda rows: story.promises.at_commit(rows, snapshot, decided))
        await self._life.step()
        if not story.is_calm and story.chance.random() < LOST_ANSWERS:
            raise UnavailableError("the connection broke before it was said that all is written")

    async def append(self, event: Event) -> None:
        await self._life.step()
        self._story.database.reach()
        self._story.say(f"event: {event.message}")

    def _own(self, document: Assignment) -> Assignment:
        """The loop notes in a document whose term it is; what is stored stays as it was written."""
        if document.term == self._life.term:
            return document
        own = Assignment()
        own.CopyFrom(document)
        return own

    def _shapes_of(self, hosts: dict[str, Host]) -> dict[str, Shape]:
        for host_id, host in hosts.items():
            known = self._shapes.get(host_id)
            if known is None or known.host is not host:
                self._shapes[host_id] = Shape.of(host)
        return self._shapes
