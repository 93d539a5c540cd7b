"""The database in memory, with the guards of the real statements; and an operator's accept of a restored one."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp
from studio.v1.assignment_pb2 import Assignment
from studio.v1.deployment_pb2 import Deployment
from studio.v1.host_pb2 import Host
from studio.v1.recipe_pb2 import Recipe
from studio.v1.replica_pb2 import Replica
from studio.v1.route_pb2 import RouteTable
from studio_coordinator.plan.ladder import RestChange
from studio_coordinator.plan.snapshot import Plan, Snapshot
from studio_runtime.errors import ConflictError, UnavailableError

from sim.schedule import Schedule


@dataclass
class Rows:
    """What a backup holds."""

    holder: str = ""
    epoch: int = 0
    lease_ends: float = 0.0
    hosts: dict[str, Host] = field(default_factory=dict)
    session_epochs: dict[str, int] = field(default_factory=dict)
    deployments: dict[str, Deployment] = field(default_factory=dict)
    recipes: dict[tuple[str, int], Recipe] = field(default_factory=dict)
    replicas: dict[str, Replica] = field(default_factory=dict)
    assignments: dict[str, Assignment] = field(default_factory=dict)
    table: RouteTable = field(default_factory=RouteTable)
    # When each deployment was last asked for.
    last_requests: dict[str, datetime] = field(default_factory=dict)


class Database:
    def __init__(self, schedule: Schedule, *, checks_epoch: bool = True) -> None:
        self._schedule = schedule
        self._checks_epoch = checks_epoch
        self.rows = Rows()
        self.is_away = False
        # When a plan was last committed.
        self.written_at = 0.0

    def reach(self) -> Rows:
        if self.is_away:
            raise UnavailableError("the database is away")
        return self.rows

    def backup(self) -> Rows:
        return copy.deepcopy(self.rows)

    def restore(self, backup: Rows) -> None:
        # The lease is in the backup too: whoever held it then.
        self.rows = copy.deepcopy(backup)

    def acquire_or_renew(self, holder: str, ttl: float, *, renews: bool) -> tuple[bool, int]:
        """``store.lease.acquire_or_renew``, by the database's clock."""
        rows, now = self.reach(), self._schedule.now
        if rows.holder != holder and rows.lease_ends > now:
            return False, rows.epoch
        if rows.holder != holder or rows.lease_ends <= now or not renews:
            rows.epoch += 1
        rows.holder, rows.lease_ends = holder, now + ttl
        return True, rows.epoch

    def commit(self, snapshot: Snapshot, decided: Plan, audit: Callable[[Rows], None]) -> None:
        """`PostgresLedger.commit`: all of it, or nothing. ``audit`` sees the rows before what is let through."""
        rows, term = self.reach(), snapshot.term
        if self._checks_epoch and (rows.epoch != term or rows.lease_ends <= self._schedule.now):
            raise UnavailableError(f"term {term} is over")
        self._refuse_stale(rows, snapshot, decided)
        audit(rows)
        self.written_at = self._schedule.now
        self._write(rows, snapshot, decided)

    def _refuse_stale(self, rows: Rows, snapshot: Snapshot, decided: Plan) -> None:
        for row in decided.updated:
            if row.id not in rows.replicas or rows.replicas[row.id].version != row.version:
                raise ConflictError(f"replica {row.id} was changed meanwhile")
        for row in decided.inserted:
            if row.id in rows.replicas:
                raise ConflictError(f"replica {row.id} is there already")
        for host_id, document in decided.assignments.items():
            before = rows.assignments.get(host_id, Assignment())
            if not (before.generation < document.generation and before.term <= document.term):
                raise ConflictError(f"the assignment of host {host_id} was changed meanwhile")
        self._refuse_stale_deployments(rows, snapshot, decided)
        if decided.table is not None and decided.table.version != rows.table.version + 1:
            raise ConflictError("the route table was changed meanwhile")

    def _refuse_stale_deployments(self, rows: Rows, snapshot: Snapshot, decided: Plan) -> None:
        versions = {deployment.name: deployment.version for deployment in snapshot.deployments}
        for name in decided.rollouts:
            if name not in rows.deployments or rows.deployments[name].version != versions[name]:
                raise ConflictError(f"deployment {name} was changed meanwhile")
        for rest in decided.rests:
            if RestChange.of(rows.deployments[rest.deployment], rest.rest, rest.reason) != rest:
                raise ConflictError(f"deployment {rest.deployment} was woken or sent to rest meanwhile")

    def _write(self, rows: Rows, snapshot: Snapshot, decided: Plan) -> None:
        for change in decided.host_changes:
            observed = snapshot.observations.get(change.host_id)
            if observed is not None and observed.session_epoch != rows.session_epochs.get(change.host_id, 0):
                # It called anew meanwhile.
                continue
            host = copy.deepcopy(rows.hosts[change.host_id])
            host.state, host.state_reason = change.state, change.reason
            rows.hosts[change.host_id] = host
        for row in (*decided.inserted, *decided.updated):
            written = rows.replicas[row.id] = Replica()
            written.CopyFrom(row)
            written.version += 1
        for name in decided.deleted:
            rows.replicas.pop(name, None)
        self._write_deployments(rows, snapshot, decided)
        for host_id, document in decided.assignments.items():
            kept = rows.assignments[host_id] = Assignment()
            kept.CopyFrom(document)
        if decided.table is not None:
            rows.table = decided.table

    def _write_deployments(self, rows: Rows, snapshot: Snapshot, decided: Plan) -> None:
        for name, rollout in decided.rollouts.items():
            written = rows.deployments[name] = copy.deepcopy(rows.deployments[name])
            written.rollout.CopyFrom(rollout)
        for name in decided.purged_deployments:
            rows.deployments.pop(name, None)
        for rest in decided.rests:
            at = Timestamp()
            at.FromDatetime(snapshot.now)
            rows.deployments[rest.deployment] = rest.applied(rows.deployments[rest.deployment], at)

    def accept(self, seen_terms: list[int], seen_version: int, seen_generations: dict[str, int]) -> None:
        """An operator says that this database is the truth: every number goes above all that hosts and gateways saw."""
        rows = self.reach()
        rows.epoch = max([rows.epoch, *seen_terms]) + 1
        table = RouteTable()
        table.CopyFrom(rows.table)
        table.term, table.version = rows.epoch, max(table.version, seen_version) + 1
        rows.table = table
        for host_id, generation in seen_generations.items():
            document = rows.assignments.setdefault(host_id, Assignment())
            kept = rows.assignments[host_id] = Assignment()
            kept.CopyFrom(document)
            kept.generation, kept.stops_confirmed = max(document.generation, generation) + 1, True
