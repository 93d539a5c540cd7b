"""The ledger in PostgreSQL: writes are guarded by the lease's epoch and by each row's version."""

from dataclasses import dataclass

from studio.v1.event_pb2 import Event
from studio_runtime.errors import ConflictError

from studio_coordinator.knowledge.access_book import AccessBook
from studio_coordinator.knowledge.snapshots import SnapshotSource
from studio_coordinator.ledger.protocol import Loaded
from studio_coordinator.plan.snapshot import Plan, Snapshot
from studio_coordinator.sessions import SessionRegistry
from studio_coordinator.store import (
    assignments,
    deployments,
    events,
    hosts,
    lease,
    replicas,
    routes,
)
from studio_coordinator.store.database import Connection, Database
from studio_coordinator.wakeup import Wakeup


@dataclass
class PostgresLedger:
    """`Ledger` over an installation's database."""

    database: Database
    sessions: SessionRegistry
    snapshots: SnapshotSource
    # With which API keys are hashed.
    pepper: bytes

    def __post_init__(self) -> None:
        self._access = AccessBook(self.pepper)

    @property
    def changed(self) -> Wakeup:
        """Facts of a model were read."""
        return self.snapshots.library.changed

    async def load(self) -> Loaded:
        """The stored state with what hosts and gateways say; GPUs that hosts found anew are stored on the way."""
        async with self.database.transaction() as conn:
            found = [
                (session, gpus) for session in self.sessions.all() if (gpus := session.gpus_to_store()) is not None
            ]
            for session, gpus in found:
                await hosts.update_gpus(conn, session.host_id, session.epoch, gpus)
            snapshot = await self.snapshots.load(conn)
            access_table = await self._access.table(conn, snapshot.term)
        for session, gpus in found:
            session.gpus_stored(gpus)
        return Loaded(snapshot, access_table)

    async def commit(self, snapshot: Snapshot, decided: Plan) -> None:
        """Write a plan; ConflictError when a row is no longer what the plan was made on."""
        async with self.database.transaction() as conn:
            await lease.check(conn, snapshot.term)
            await _write(conn, snapshot, decided)
        self.snapshots.activity.made_way(decided.made_way)

    async def append(self, event: Event) -> None:
        """Store an event that belongs to no plan."""
        async with self.database.transaction() as conn:
            await events.append(conn, [event])


async def _write(conn: Connection, snapshot: Snapshot, decided: Plan) -> None:
    epochs = {host_id: observed.session_epoch for host_id, observed in snapshot.observations.items()}
    await hosts.set_states(
        conn,
        [
            hosts.HostState(change.host_id, epochs.get(change.host_id), change.state, change.reason, None)
            for change in decided.host_changes
        ],
    )
    await _write_replicas(conn, decided)
    await _write_deployments(conn, snapshot, decided)
    kept = decided.assignments.keys() - await assignments.put_assignments(conn, decided.assignments, snapshot.term)
    if kept:
        raise ConflictError(f"the assignment of host {min(kept)} was changed meanwhile")
    if decided.table is not None and not await routes.put_table(conn, decided.table):
        raise ConflictError("the route table was changed meanwhile")
    await events.append(conn, decided.events)


async def _write_replicas(conn: Connection, decided: Plan) -> None:
    for row in decided.inserted:
        await replicas.insert_replica(conn, row)
    for row in decided.updated:
        if not await replicas.update_replica(conn, row):
            raise ConflictError(f"replica {row.id} was changed meanwhile")
    for replica_id in decided.deleted:
        await replicas.delete_replica(conn, replica_id)


async def _write_deployments(conn: Connection, snapshot: Snapshot, decided: Plan) -> None:
    versions = {deployment.name: deployment.version for deployment in snapshot.deployments}
    for name, rollout in decided.rollouts.items():
        if not await deployments.put_rollout(conn, name, versions[name], rollout):
            raise ConflictError(f"deployment {name} was changed meanwhile")
    for name in decided.purged_deployments:
        await deployments.purge_deployment(conn, name)
    for rest in decided.rests:
        at = snapshot.now
        if not await deployments.set_rest(conn, rest.deployment, rest.rest, rest.reason, at, rest.was_since):
            raise ConflictError(f"deployment {rest.deployment} was woken or sent to rest meanwhile")
