"""What must hold after every step, whatever happens, and what must be true once everything rests."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING

from studio.v1.assignment_pb2 import AssignedReplica, Assignment
from studio.v1.deployment_pb2 import Deployment
from studio.v1.host_pb2 import Host
from studio.v1.replica_pb2 import Replica
from studio.v1.route_pb2 import RouteTable
from studio_coordinator.plan.members import parts
from studio_coordinator.plan.rollout import DONE, PAUSED, REPLACE, ROLLED_BACK, phase_name
from studio_coordinator.plan.snapshot import Plan, Snapshot

from sim.cast import CAST, ON_DEMAND
from sim.memory import Rows
from sim.revisions import Fate

if TYPE_CHECKING:
    from sim.host import Engine, SimulatedHost
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


def resting_after(snapshot: Snapshot, decided: Plan) -> set[str]:
    """Deployments that rest once the plan is carried out."""
    rests = {deployment.name: deployment.rest for deployment in snapshot.deployments}
    rests |= {change.deployment: change.rest for change in decided.rests}
    return {name for name, rest in rests.items() if rest > Deployment.REST_AWAKE}


class Promises:
    def __init__(self, story: "Story") -> None:
        self._story = story

    def at_commit(self, rows: Rows, snapshot: Snapshot, decided: Plan) -> None:
        must(snapshot.term == rows.epoch, f"term {snapshot.term} wrote while term {rows.epoch} led")
        for host_id, document in decided.assignments.items():
            awake = [item for item in document.replicas if item.wish == AssignedReplica.WISH_RUN]
            held = Counter(uuid for item in awake for uuid in item.gpu_uuids)
            must(not held or max(held.values()) == 1, f"two replicas share a GPU of {host_id}")
        self._keeps_groups_whole(rows.assignments | dict(decided.assignments))
        deployments = {deployment.name: deployment for deployment in snapshot.deployments}
        before = {row.id: row.host_id for row in snapshot.replicas}
        for row in (*decided.inserted, *decided.updated):
            if row.host_id and row.host_id != before.get(row.id, ""):
                must(not deployments[row.deployment].stopped, f"{row.id} of a stopped deployment was placed")
        for change in decided.host_changes:
            if change.state == Host.STATE_LOST:
                must(
                    change.host_id not in self._story.troubles.gone_together,
                    f"{change.host_id} was given up with many others",
                )
        self._keeps_serving(snapshot, decided)
        self._keeps_bad_revisions_out(snapshot, decided)
        if decided.table is not None:
            self._keeps_a_route(rows, snapshot, decided)
            self._keeps_sleepers_out(snapshot, decided)

    def _keeps_groups_whole(self, documents: Mapping[str, Assignment]) -> None:
        """Of a replica over several hosts every host is told to run its part, or none is."""
        told: dict[str, list[AssignedReplica]] = defaultdict(list)
        for document in documents.values():
            for item in document.replicas:
                if item.group.size:
                    told[item.replica_id].append(item)
        for replica_id, items in told.items():
            ranks, starts = sorted(item.group.rank for item in items), {item.generation for item in items}
            whole = ranks == list(range(items[0].group.size)) and len(starts) == 1
            must(whole, f"of {replica_id} ranks {ranks} are to run, of starts {sorted(starts)}")

    def _keeps_sleepers_out(self, snapshot: Snapshot, decided: Plan) -> None:
        """No request is sent to a replica that sleeps, or is to."""
        after = {row.id: row for row in (*snapshot.replicas, *decided.inserted, *decided.updated)}
        for model, endpoints in models_with(decided.table).items():
            asleep = [name for name in endpoints if after[name].sleep_level]
            must(not asleep, f"{model} is routed to {asleep}, which sleep")

    def _keeps_serving(self, snapshot: Snapshot, decided: Plan) -> None:
        """Of an older revision, or of a host that drains, a replica that serves goes only once enough others do."""
        after = {row.id: row for row in (*snapshot.replicas, *decided.inserted, *decided.updated)}
        before = {row.id: row for row in snapshot.replicas}
        table = decided.table if decided.table is not None else snapshot.table
        routed = {end.replica_id for route in table.routes for end in route.endpoints}
        resting = resting_after(snapshot, decided)
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
            kept = deployment.stopped or ready >= deployment.spec.replicas.min or deployment.name in resting
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

    def _keeps_a_route(self, rows: Rows, snapshot: Snapshot, decided: Plan) -> None:
        after = models_with(decided.table)
        wanted = {deployment.name for deployment in snapshot.deployments if not deployment.stopped}
        wanted -= resting_after(snapshot, decided)
        for model, endpoints in models_with(rows.table).items():
            if model in wanted and endpoints and not after.get(model):
                working = [name for name in endpoints if self._works_untroubled(rows, name)]
                must(not working, f"the last route of {model} was withdrawn while {working} worked")

    def _works_untroubled(self, rows: Rows, replica_id: str) -> bool:
        row = rows.replicas.get(replica_id)
        if row is None or not row.host_id:
            return False
        for part in parts(row):
            host = self._story.host(part.host_id)
            engine = host.engines.get(replica_id)
            calm = self._story.schedule.now - host.troubled_at > AFTERMATH_SECONDS and not host.is_down
            if not calm or engine is None or engine.state != Replica.STATE_READY:
                return False
        return True

    def before_accept(self, host: "SimulatedHost", document: Assignment) -> None:
        if host.accepted:
            term, generation = host.accepted[-1]
            must(document.term >= term, f"{host.name} went back from term {term} to {document.term}")
            must(document.generation > generation, f"{host.name} went back from generation {generation}")
        wanted = {item.replica_id for item in document.replicas}
        for name, engine in host.engines.items():
            if name not in wanted and engine.state == Replica.STATE_READY:
                self._is_withdrawn(host, name, "stopped")

    def before_sleep(self, host: "SimulatedHost", replica_id: str) -> None:
        self._is_withdrawn(host, replica_id, "put to sleep")

    def _is_withdrawn(self, host: "SimulatedHost", replica_id: str, what: str) -> None:
        if not self._story.troubles.is_known(host, replica_id):
            return
        for gateway in self._story.gateways:
            if self._story.schedule.now - gateway.alone_since > GATEWAY_AFTERMATH_SECONDS:
                must(not gateway.routes_to(replica_id), f"{replica_id} was {what} while {gateway.name} routed to it")

    def at_rest(self) -> None:
        """All troubles are over, and nothing changes any more."""
        story = self._story
        rows = story.database.rows
        for deployment in rows.deployments.values():
            name = deployment.name
            rests = self._rests_as_it_should(deployment)
            expected = 0 if deployment.stopped or rests else deployment.spec.replicas.min
            serving = [
                replica_id
                for host in story.hosts
                for replica_id, engine in host.engines.items()
                if engine.assigned.deployment == name and self._serves(replica_id, engine)
            ]
            phase, rollout = phase_name(deployment.rollout.phase), deployment.rollout
            # One that was named at the last moment may have failed since.
            if rollout.phase == PAUSED and deployment.spec.rollout.on_failure == "pause":
                continue
            must(
                deployment.stopped or rests or rollout.phase in ENDS,
                f"the rollout of {name} is {phase}, and never ends",
            )
            if story.revisions.is_hopeless(deployment):
                continue
            must(len(serving) == expected, f"{name} ({phase}) has {serving}, not {expected}, once everything rests")
            for gateway in story.gateways:
                routed = models_with(gateway.table or RouteTable()).get(name, [])
                must(sorted(routed) == sorted(serving), f"{gateway.name} routes {name} to {routed}, not to {serving}")
        for host in story.hosts:
            stored = rows.assignments.get(host.id, Assignment())
            must(host.applied_generation == stored.generation, f"{host.name} has not what is stored for it")
            for name, engine in host.engines.items():
                found = len(story.parts(name, engine))
                must(found == engine.group_size, f"{found} of {engine.group_size} parts of {name} run")

    def _serves(self, replica_id: str, engine: "Engine") -> bool:
        """Of a replica over several hosts it is rank 0, and all the others with it."""
        parts_of_it = self._story.parts(replica_id, engine) or [(None, engine)]
        return not engine.assigned.group.rank and all(part.state == Replica.STATE_READY for _, part in parts_of_it)

    def _rests_as_it_should(self, deployment: Deployment) -> bool:
        """Who comes and goes by demand is awake while it is asked for, and else as far down as its policy goes."""
        name, rest = deployment.name, deployment.rest
        if deployment.stopped or name not in ON_DEMAND:
            return False
        if name in self._story.asked:
            must(rest <= Deployment.REST_AWAKE, f"{name} is asked for, and rests: {deployment.rest_reason}")
            return False
        must(rest == CAST[name].rests_at, f"nobody asks for {name}, and it rests at {rest}")
        return True
