"""The whole input of one pass: the stored state, what hosts say, and what is known beside it."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from studio.v1.deployment_pb2 import Deployment
from studio.v1.replica_pb2 import Replica

from studio_coordinator.gateways import GatewayRegistry
from studio_coordinator.knowledge.activity import ActivityLog
from studio_coordinator.knowledge.canaries import CanaryWatch
from studio_coordinator.knowledge.demand import DemandLog
from studio_coordinator.knowledge.host_book import HostBook
from studio_coordinator.knowledge.library import ModelLibrary
from studio_coordinator.knowledge.revision_shelf import RevisionShelf
from studio_coordinator.knowledge.sizes import SizeBook
from studio_coordinator.knowledge.stored import StoredFleet
from studio_coordinator.leadership import Leadership
from studio_coordinator.plan.canary import Watched
from studio_coordinator.plan.snapshot import Snapshot, Timers
from studio_coordinator.sessions import SessionRegistry
from studio_coordinator.store import (
    deployments,
    hosts,
    last_requests,
    providers,
    replicas,
    routes,
)
from studio_coordinator.store.database import Connection


@dataclass
class SnapshotSource:
    """Loads snapshots, for the leader's loop and for whoever asks what it would do."""

    leadership: Leadership
    sessions: SessionRegistry
    gateways: GatewayRegistry
    timers: Timers
    library: ModelLibrary
    sizes: SizeBook
    activity: ActivityLog
    demand: DemandLog = field(default_factory=DemandLog)
    canaries: CanaryWatch = field(default_factory=CanaryWatch)
    stored: StoredFleet = field(default_factory=StoredFleet)
    revisions: RevisionShelf = field(default_factory=RevisionShelf)

    def __post_init__(self) -> None:
        self.book = HostBook(self.sessions)

    async def load(self, conn: Connection) -> Snapshot:
        """The world as ``conn`` sees it now."""
        wanted, traceparents = await deployments.list_with_traceparents(conn)
        rows = await replicas.list_replicas(conn)
        needed = {(item.spec.recipe, item.target_revision) for item in wanted}
        needed |= {(row.recipe_name, row.recipe_revision) for row in rows}
        needed |= {(item.rollout.from_recipe, item.rollout.from_revision) for item in wanted if item.rollout.phase}
        needed |= {(item.rollout.to_recipe, item.rollout.to_revision) for item in wanted if item.rollout.phase}
        known = await self.revisions.get(conn, needed, self.leadership.term)
        await self.stored.refresh(conn)
        found = await self.book.update(self.stored.hosts(), await hosts.last_seen(conn, self._silent()))
        now = datetime.now(UTC)
        if self.demand.term != self.leadership.term:
            self.demand.begin(self.leadership.term, await last_requests.last_requests(conn), now)
        whole = self.gateways.traffic_is_whole()
        demands = self.demand.demands(wanted, known, self.gateways.heard(), all_known=whole)
        return Snapshot(
            now=now,
            term=self.leadership.term,
            leading_for_seconds=self.leadership.leading_for_seconds,
            hosts=found,
            observations={session.host_id: session.observation() for session in self.sessions.all()},
            deployments=wanted,
            recipes=known,
            replicas=rows,
            assignments=self.stored.assignments(),
            table=await routes.current_table(conn),
            acknowledged_version=self.gateways.acknowledged_version(),
            providers=await providers.list_providers(conn),
            traceparents=traceparents,
            timers=self.timers,
            models_on_hosts=self.book.weights,
            shapes=self.book.shapes,
            sizes=self.sizes.sizes(known, found),
            activities=self.activity.activities(rows, wanted, known, demands),
            demands=demands,
            watches=self.watched(wanted, rows),
        )

    def _silent(self) -> list[str]:
        """Hosts that are not heard: when they last were counts. Of the others, what is stored of it is old and not looked at."""
        heard = self.sessions.heard_within(2 * self.timers.heartbeat_interval)
        return [host.id for host in self.stored.hosts() if host.id not in heard]

    def watched(self, wanted: Sequence[Deployment], rows: Iterable[Replica]) -> dict[str, Watched]:
        """What the gateways have seen of canaries until now, by deployment."""
        return self.canaries.watched(wanted, rows, self.gateways.traffic(), time.monotonic())
