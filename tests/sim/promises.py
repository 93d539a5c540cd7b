"""What must hold after every step, whatever happens, and what must be true once everything rests."""

from collections import Counter
from typing import TYPE_CHECKING

from studio.v1.assignment_pb2 import Assignment
from studio.v1.host_pb2 import Host
from studio.v1.replica_pb2 import Replica
from studio.v1.route_pb2 import RouteTable
from studio_coordinator.plan.rollout import DONE, PAUSED, REPLACE, ROLLED_BACK, phase_name
from studio_coordinator.plan.snapshot import Plan, Snapshot

from sim.memory import Rows
from sim.revisions import Fate

if TYPE_CHECKING:
    from sim.host import SimulatedHost
    from sim.story import Story

# Trouble of a host counts for so long: what is decided meanwhile may be owed to it.
AFTERMATH_SECONDS = 120.0
# A gateway that could not be reached for a moment counts as gone, and may route by an old table.
GATEWAY_AFTERMATH_SECONDS = 30.0


# 0: there never was one.
ENDS = {0, DONE, ROLLED_BACK}


class BrokenPromiseError(AssertionError):
    """Something happened that must not."""


def must(kept: object, what: str) -> None:
    if not kept:
        raise BrokenPromiseError(what)


def models_with(table: RouteTable) -> dict[str, list[str]]:
    return {route.model: [end.replica_id for end in route.endpoints] for route in table.routes}


class Promises:
    def __init__(self, story: "Story") -> None:
        self._story = story

    def at_commit(self, rows: Rows, snapshot: Snapshot, decided: Plan) -> None:
        must(snapshot.term == rows.epoch, f"term {snapshot.term} wrote while term {rows.epoch} led")
        for host_id, document in decided.assignments.items():
            held = Counter(uuid for item in document.replicas for uuid in item.gpu_uuids)
            must(not held or max(held.values()) == 1, f"two replicas share a GPU of {host_id}")
        deployments = {deployment.name: deployment for deployment in snapshot.deployments}
        before = {row.id: row.host_id for row in snapshot.replicas}
        for row in (*decided.inserted, *decided.updated):
            if row.host_id and row.host_id != before.get(row.id, ""):
                must(not deployments[row.deployment].stopped, f"{row.id} of a stopped deployment was placed")
        for change in decided.host_changes:
            if change.state == Host.STATE_LOST:
                must(change.host_id not in self._story.gone_together, f"{change.host_id} was given up with many others")
        self._keeps_serving(snapshot, decided)
        self._keeps_bad_revisions_out(snapshot, decided)
        if decided.table is not None:
            self._keeps_a_route(rows, snapshot, decided.table)

    def _keeps_serving(self, snapshot: Snapshot, decided: Plan) -> None:
        """Of an older revision, or of a host that drains, a replica that serves goes only once enough others do."""
        after = {row.id: row for row in (*snapshot.replicas, *decided.inserted, *decided.updated)}
        before = {row.id: row for row in snapshot.replicas}
        table = decided.table if decided.table is not None else snapshot.table
        routed = {end.replica_id for route in table.routes for end in route.endpoints}
        for deployment in snapshot.deployments:
            rows = [row for row in after.values() if row.deployment == deployment.name]
            gone = [
                row.id
                for row in rows
                if row.retiring
                and row.engine_ready
                and not before[row.id].retiring
                and "wants" not in row.retiring_reason
            ]
            ready = sum(not row.retiring and (row.state == Replica.STATE_READY or row.id in routed) for row in rows)
            kept = deployment.stopped or ready >= deployment.spec.replicas.min
            must(
                not gone or kept,
                f"{gone} went while {ready} of {deployment.spec.replicas.min} of {deployment.name} served",
            )

    def _keeps_bad_revisions_out(self, snapshot: Snapshot, decided: Plan) -> None:
        """Who errs in its canary replaces nobody."""
        for deployment in snapshot.deployments:
            rollout = decided.rollouts.get(deployment.name)
            if (
                rollout is None
                or rollout.phase not in (REPLACE, DONE)
                or not deployment.spec.rollout.HasField("canary")
            ):
                continue
            # What is named while nothing serves, or served before, is not tried.
            tried = "is named again" not in rollout.reason and "no replica of" not in rollout.reason
            fate = self._story.revisions.fate(deployment.name, rollout.to_revision)
            must(
                not tried or fate is Fate.GOOD,
                f"{deployment.name} goes on to r{rollout.to_revision}, which {fate.value}",
            )

    def _keeps_a_route(self, rows: Rows, snapshot: Snapshot, table: RouteTable) -> None:
        after = models_with(table)
        wanted = {deployment.name for deployment in snapshot.deployments if not deployment.stopped}
        for model, endpoints in models_with(rows.table).items():
            if model in wanted and endpoints and not after.get(model):
                working = [name for name in endpoints if self._works_untroubled(rows, name)]
                must(not working, f"the last route of {model} was withdrawn while {working} worked")

    def _works_untroubled(self, rows: Rows, replica_id: str) -> bool:
        row = rows.replicas.get(replica_id)
        if row is None or not row.host_id:
            return False
        host = self._story.host(row.host_id)
        engine = host.engines.get(replica_id)
        calm = self._story.schedule.now - host.troubled_at > AFTERMATH_SECONDS and not host.is_down
        return calm and engine is not None and engine.state == Replica.STATE_READY

    def before_accept(self, host: "SimulatedHost", document: Assignment) -> None:
        if host.accepted:
            term, generation = host.accepted[-1]
            must(document.term >= term, f"{host.name} went back from term {term} to {document.term}")
            must(document.generation > generation, f"{host.name} went back from generation {generation}")
        wanted = {item.replica_id for item in document.replicas}
        for name, engine in host.engines.items():
            if name in wanted or engine.state != Replica.STATE_READY or not self._story.is_known(host, name):
                continue
            for gateway in self._story.gateways:
                if self._story.schedule.now - gateway.alone_since > GATEWAY_AFTERMATH_SECONDS:
                    must(not gateway.routes_to(name), f"{name} was stopped while {gateway.name} routed to it")

    def at_rest(self) -> None:
        """All troubles are over, and nothing changes any more."""
        story = self._story
        rows = story.database.rows
        for deployment in rows.deployments.values():
            name = deployment.name
            expected = 0 if deployment.stopped else deployment.spec.replicas.min
            serving = [
                replica_id
                for host in story.hosts
                for replica_id, engine in host.engines.items()
                if engine.assigned.deployment == name and engine.state == Replica.STATE_READY
            ]
            phase, rollout = phase_name(deployment.rollout.phase), deployment.rollout
            # One that was named at the last moment may have failed since.
            if rollout.phase == PAUSED and deployment.spec.rollout.on_failure == "pause":
                continue
            must(deployment.stopped or rollout.phase in ENDS, f"the rollout of {name} is {phase}, and never ends")
            if story.revisions.is_hopeless(deployment):
                continue
            must(len(serving) == expected, f"{name} ({phase}) has {serving}, not {expected}, once everything rests")
            for gateway in story.gateways:
                routed = models_with(gateway.table or RouteTable()).get(name, [])
                must(sorted(routed) == sorted(serving), f"{gateway.name} routes {name} to {routed}, not to {serving}")
        for host in story.hosts:
            stored = rows.assignments.get(host.id, Assignment())
            must(host.applied_generation == stored.generation, f"{host.name} has not what is stored for it")
