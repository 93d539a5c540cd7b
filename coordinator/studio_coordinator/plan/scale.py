"""One deployment's replicas: place what it lacks, retire what it has too many, and replace what is not on its course.

Which revision they are to be of is the rollout's decision (`course`). What replaces another comes up beside it
(``rollout.surge``) and takes its place replica by replica as it serves. Where there is no room for both, the old one goes first
only if ``rollout.drain_first_allowed`` says so and it makes that room. A lost replica is kept until another took its place: its
host may bring it back, with its weights still warm.

A replica that waits for others to leave keeps the room that they free: nothing less important slips in meanwhile.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from studio.v1.deployment_pb2 import Deployment
from studio.v1.event_pb2 import Event
from studio.v1.recipe_pb2 import Recipe
from studio.v1.replica_pb2 import Replica

from studio_coordinator.plan.course import course_of, on_revision
from studio_coordinator.plan.drain_first import room_makers
from studio_coordinator.plan.fleet import Fleet
from studio_coordinator.plan.group import begin_anew
from studio_coordinator.plan.ladder import LEVELS, is_on_ladder
from studio_coordinator.plan.make_room import make_room
from studio_coordinator.plan.members import is_group, parts
from studio_coordinator.plan.occupancy import Held
from studio_coordinator.plan.place import Awaiting, Placed, Unplaced, place, placed_at
from studio_coordinator.plan.preempt import PRE_EMPTED
from studio_coordinator.plan.resting import Resting
from studio_coordinator.plan.rollout import revision_of
from studio_coordinator.plan.sizing import UNKNOWN, Sizing
from studio_coordinator.plan.wish import Wish, wish_of
from studio_coordinator.plan.worksheet import Worksheet

BEING_READ = "its model is being read"
NUMBER = re.compile(r"\d[\d.,]*")


def wanted_replicas(deployment: Deployment) -> int:
    """How many replicas the deployment should have now; 1 where it does not say."""
    if deployment.stopped or deployment.rest == Deployment.REST_STOPPED:
        return 0
    replicas = deployment.spec.replicas
    wanted = replicas.min if replicas.HasField("min") else 1
    return max(1, wanted) if is_on_ladder(deployment) else wanted


@dataclass(frozen=True)
class Scaler:
    """Works on one deployment after another; ``fleet`` carries what earlier ones took."""

    sheet: Worksheet
    fleet: Fleet
    recipes: Mapping[tuple[str, int], Recipe]
    resting: Resting
    # Ids of hosts whose replicas are to be moved away.
    draining: frozenset[str] = frozenset()
    sizes: Mapping[tuple[str, int], Sizing] = field(default_factory=dict)
    # Why a wish found no room, and at which version of the fleet: replicas of one deployment are alike.
    refused: dict[Wish, tuple[int, Unplaced]] = field(default_factory=dict)
    # What this pass placed, by id: it may still be moved.
    fresh: dict[str, tuple[Replica, Wish]] = field(default_factory=dict)
    # Ids of replicas that have room as soon as others left.
    awaiting: set[str] = field(default_factory=set)

    def scale(self, deployment: Deployment) -> None:
        """Bring one deployment's replicas to what it wants."""
        # One that was scaled earlier in this pass may have sent it to rest.
        deployment = self.resting.deployments[deployment.name]
        wanted = wanted_replicas(deployment)
        if wanted == 0:
            for row in self.sheet.of(deployment.name):
                self._retire(row, _why_none(deployment))
            return
        if deployment.rest in LEVELS:
            self.resting.lie_down(deployment, self.sheet.of(deployment.name), lambda row: not self._is_to_leave(row))
            return
        self.resting.rouse(deployment, self.sheet.of(deployment.name))
        kept = self.sheet.of(deployment.name)
        course = course_of(deployment, kept, wanted)
        tried = [row for row in kept if revision_of(row) == course.tried]
        others = [row for row in kept if revision_of(row) != course.tried]
        there = sum(revision_of(row) == course.target and row.state != Replica.STATE_LOST for row in others)
        self._bring(on_revision(deployment, course.target), course.wanted_of_target(wanted, there, len(tried)), others)
        if course.tried is not None:
            trial = on_revision(deployment, course.tried)
            self._bring(trial, course.tries, tried)
            if course.drains_first:
                self._drain_for(trial, tried, [row for row in others if not row.retiring])

    def _bring(self, deployment: Deployment, wanted: int, kept: Sequence[Replica]) -> None:
        """Have ``wanted`` replicas of the deployment's revision in place of ``kept``."""
        lost = [row for row in kept if row.state == Replica.STATE_LOST]
        present = [row for row in kept if row.state != Replica.STATE_LOST]
        new = [row for row in present if self._may_stay(row, deployment)]
        old = [row for row in present if not self._may_stay(row, deployment)]
        for row in dispensable(new, max(0, len(new) - wanted), _ready(new), wanted):
            self._retire(row, f"{deployment.name} wants {wanted} replica{'s' if wanted != 1 else ''}")
            new.remove(row)
        if _ready(present) >= wanted:
            for row in lost:
                self._retire(row, "it was replaced while its host was lost")
        self._retire_old(deployment, wanted, new, old)
        self._settle_waiting(deployment, new)
        self._add(deployment, wanted, new, old)

    def _may_stay(self, row: Replica, deployment: Deployment) -> bool:
        """Whether a replica is what the deployment wants, where it is.

        A host that drains is left as an old revision is, and so does one go that is to move: it has a reason to retire already.
        """
        return _is_target(row, deployment) and not self._is_to_leave(row)

    def _is_to_leave(self, row: Replica) -> bool:
        return bool(row.retiring_reason) or any(part.host_id in self.draining for part in parts(row))

    def announce(self) -> None:
        """Tell where everything went; called once no one is moved any more."""
        for row, _ in self.fresh.values():
            self.sheet.tell(row, "replica.placed", f"{row.id} {row.state_reason}")

    def _retire_old(self, deployment: Deployment, wanted: int, new: Sequence[Replica], old: list[Replica]) -> None:
        """Retire replicas that are to go and serve nobody, and as many others as ready new ones replaced."""
        for row in [row for row in old if not row.engine_ready]:
            # It may hold the very GPUs that its successor needs.
            self._retire(row, f"{self._successor(row, deployment)} takes its place, and it did not serve")
            old.remove(row)
        for row in dispensable(old, len(old), _ready(new) + _ready(old), wanted):
            self._retire(row, f"{self._successor(row, deployment)} took its place")
            old.remove(row)

    def _successor(self, row: Replica, deployment: Deployment) -> str:
        """What takes a replica's place: another revision, or the same one on a host that stays."""
        if row.retiring_reason:
            return f"a replica elsewhere ({row.retiring_reason})"
        if _is_target(row, deployment):
            return f"a replica away from {row.host_name}, which drains,"
        return f"r{deployment.target_revision}"

    def _settle_waiting(self, deployment: Deployment, new: Sequence[Replica]) -> None:
        for row in new:
            if not row.host_id:
                self._settle(row, deployment)
            elif row.state == Replica.STATE_FAILED and row.generation <= deployment.tries:
                begin_anew(row, deployment.tries + 1)
                row.restarts = 0
                self.sheet.move(row, Replica.STATE_PENDING, "an operator had it tried anew")
                self.sheet.tell(row, "replica.retried", f"{row.id} is tried anew")

    def _add(self, deployment: Deployment, wanted: int, new: list[Replica], old: list[Replica]) -> None:
        """Start what is missing: all at once, or beside an older revision only as many as the surge allows."""
        missing = wanted - len(new)
        if old:
            coming = sum(row.state != Replica.STATE_READY for row in new)
            missing = min(missing, max(1, deployment.spec.rollout.surge) - coming)
        for _ in range(max(0, missing)):
            row = self._new_replica(deployment)
            new.append(row)
            self._settle(row, deployment)
        if deployment.spec.rollout.drain_first_allowed:
            self._drain_for(deployment, new, old)

    def _drain_for(self, deployment: Deployment, new: Sequence[Replica], old: Sequence[Replica]) -> None:
        """Retire one old replica, or as many on one host as needed, where that makes room for a new one that has none."""
        stuck = [row for row in new if not row.host_id and row.id not in self.awaiting]
        recipe = self.recipes.get((deployment.spec.recipe, deployment.target_revision))
        if not stuck or not old or recipe is None:
            return
        sizing = self.sizes.get((deployment.spec.recipe, deployment.target_revision), UNKNOWN)
        leaving = room_makers(self.fleet, wish_of(deployment, recipe, sizing), [row.id for row in least_useful(old)])
        reason = f"there is no room for r{deployment.target_revision} beside it, and drain_first_allowed is set"
        for row in old:
            if row.id in leaving:
                self._retire(row, reason)

    def _new_replica(self, deployment: Deployment) -> Replica:
        taken = {*self.sheet.rows, *self.sheet.deleted}
        number = next(n for n in range(1, len(taken) + 2) if f"{deployment.name}-{n}" not in taken)
        recipe = self.recipes.get((deployment.spec.recipe, deployment.target_revision), Recipe())
        row = Replica(
            id=f"{deployment.name}-{number}",
            deployment=deployment.name,
            recipe_name=deployment.spec.recipe,
            recipe_revision=deployment.target_revision,
            state=Replica.STATE_PENDING,
            state_since=self.sheet.now,
            generation=deployment.tries + 1,
            engine=recipe.engine.name,
        )
        self.sheet.rows[row.id] = row
        return row

    def _settle(self, row: Replica, deployment: Deployment) -> None:
        """Give a replica a host, or say why it waits."""
        recipe = self.recipes.get((row.recipe_name, row.recipe_revision))
        if recipe is None:
            return
        sizing = self.sizes.get((row.recipe_name, row.recipe_revision), UNKNOWN)
        if sizing.being_read:
            self.awaiting.add(row.id)
            row.state_reason = BEING_READ
            return
        wish, found = self._place_smallest(wish_of(deployment, recipe, sizing), row.id)
        found = self._make_way(wish, deployment, row, found)
        if isinstance(found, Placed):
            self._settle_at(row, wish, found)
            return
        if isinstance(found, Awaiting):
            self._keep_room(row, wish, found)
        reason = found.reason
        if isinstance(found, Unplaced) and (cause := self._pre_empted_by(deployment)):
            reason = f"{cause}; {reason}"
        anew = _without_numbers(row.state_reason) != _without_numbers(reason)
        row.state_reason = reason
        if anew:
            self.sheet.tell(row, "replica.waiting", f"{row.id} waits: {reason}", Event.SEVERITY_WARNING)

    def _place_smallest(self, wish: Wish, replica_id: str) -> tuple[Wish, Placed | Awaiting | Unplaced]:
        """Find room for the smallest split, else for a wider one that has room now; what was wished in the end comes too."""
        found = self._place(wish, replica_id)
        for need in wish.wider if not isinstance(found, Placed) else ():
            wider = replace(wish, gpus=need, wider=())
            if isinstance(other := self._place(wider, replica_id), Placed):
                return wider, other
        return wish, found

    def _place(self, wish: Wish, replica_id: str) -> Placed | Awaiting | Unplaced:
        """Find room, also by moving replicas that this pass placed; the fleet counts the replica in where it is placed."""
        version, refusal = self.refused.get(wish, (-1, None))
        if refusal is not None and version == self.fleet.version:
            return refusal
        best = self.fleet.best(wish) if wish.span <= 1 else None
        if best is not None:
            self.fleet.add(Held.at(replica_id, wish, best.gpu_uuids), best.view.host.id)
            return placed_at(self.fleet, wish, best)
        movable = {name: other for name, (row, other) in self.fresh.items() if not is_group(row)}
        room = make_room(self.fleet, replica_id, wish, movable) if wish.span <= 1 else None
        if room is not None:
            for name, fit in room.moved.items():
                row, other = self.fresh[name]
                self._settle_at(row, other, placed_at(self.fleet, other, fit))
            return placed_at(self.fleet, wish, room.fit)
        found = place(self.fleet, wish)
        if isinstance(found, Placed):
            self._hold(replica_id, wish, found)
        if isinstance(found, Unplaced):
            self.refused[wish] = (self.fleet.version, found)
        return found

    def _hold(self, replica_id: str, wish: Wish, found: Placed | Awaiting) -> None:
        """Count a replica in on every host that it is to have."""
        part = wish if len(found.where) == 1 else replace(wish, span=len(found.where))
        for host, gpu_uuids in found.where:
            self.fleet.add(Held.at(replica_id, part, gpu_uuids), host.id)

    def _make_way(
        self, wish: Wish, deployment: Deployment, row: Replica, found: Placed | Awaiting | Unplaced
    ) -> Placed | Awaiting | Unplaced:
        """Rather than to pre-empt or to wait: have replicas leave that come and go by demand."""
        if isinstance(found, Placed) or (isinstance(found, Awaiting) and found.preemption is None) or wish.span > 1:
            return found
        way = self.resting.make_way(wish, self.resting.waited_seconds(deployment, row))
        if way is None:
            return found
        leaving = tuple(sorted(step.replica_id for step in way.steps))
        return Awaiting(way.fit.view.host, way.fit.gpu_uuids, leaving)

    def _settle_at(self, row: Replica, wish: Wish, found: Placed) -> None:
        self.fresh[row.id] = (row, wish)
        row.host_id, row.host_name = found.host.id, found.host.name
        row.gpu_uuids[:] = found.gpu_uuids
        del row.members[:]
        for rank, (host, gpu_uuids) in enumerate(found.more_hosts, 1):
            row.members.add(
                rank=rank, host_id=host.id, host_name=host.name, gpu_uuids=gpu_uuids, state=Replica.STATE_PENDING
            )
        self.sheet.move(row, Replica.STATE_PENDING, f"placed on {found.host.name}: {found.reason}")

    def _keep_room(self, row: Replica, wish: Wish, found: Awaiting) -> None:
        """Retire who has to leave for ``row``, and let nobody else have their room."""
        if found.preemption is not None:
            for victim in found.victims:
                self._retire(self.sheet.rows[victim.id], found.preemption.reason(wish, row.id, victim))
        self.awaiting.add(row.id)
        self._hold(row.id, wish, found)

    def _retire(self, row: Replica, reason: str) -> None:
        self.sheet.retire(row, reason)
        self.fleet.leave(row.id)

    def _pre_empted_by(self, deployment: Deployment) -> str:
        """Why a replica of this deployment has to leave, if it is for a more important one."""
        rows = (row for row in self.sheet.rows.values() if row.deployment == deployment.name and row.retiring)
        return next((row.retiring_reason for row in rows if row.retiring_reason.startswith(PRE_EMPTED)), "")


def _without_numbers(reason: str) -> str:
    """What a reason says; sizes and times in it move all the time, and are no news."""
    return NUMBER.sub("", reason)


def least_useful(rows: Sequence[Replica]) -> list[Replica]:
    """Rows in the order in which they are given up: what does not answer, what has no route yet, then the newest."""

    def key(row: Replica) -> tuple[bool, bool, int]:
        return row.state == Replica.STATE_READY, row.engine_ready, -int(row.id.rpartition("-")[2])

    return sorted(rows, key=key)


def dispensable(rows: Sequence[Replica], at_most: int, ready: int, wanted: int) -> list[Replica]:
    """Up to ``at_most`` of ``rows`` that can go now: one whose engine answers only while ``wanted`` of the ``ready`` remain.

    Where several engines answer and their routes are still on the way, which of them is one too many shows once they have them.
    """
    going = []
    for row in least_useful(rows)[:at_most]:
        left = ready - (row.state == Replica.STATE_READY)
        if row.engine_ready and left < wanted:
            break
        ready = left
        going.append(row)
    return going


def _ready(rows: Sequence[Replica]) -> int:
    return sum(row.state == Replica.STATE_READY for row in rows)


def _why_none(deployment: Deployment) -> str:
    """Why the deployment wants no replica."""
    if deployment.state == Deployment.STATE_STOPPING:
        return "its deployment was deleted"
    return "it was stopped" if deployment.stopped else deployment.rest_reason or "it wants no replica"


def _is_target(row: Replica, deployment: Deployment) -> bool:
    return row.recipe_name == deployment.spec.recipe and row.recipe_revision == deployment.target_revision
