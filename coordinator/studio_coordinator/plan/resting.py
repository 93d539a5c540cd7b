"""Carrying out how deep deployments rest: whose replicas fall asleep, whose wake and where, and who makes way for whom.

::

    at rest:  READY ──route withdrawn──▶ DRAINING ──acknowledged──▶ SLEEPING       what cannot sleep retires
    awake:    SLEEPING ──its GPUs are free──▶ WAKING ──▶ READY
                  │ ──others have them, room elsewhere──▶ retired, and started there
                  └ ──no room──▶ others make way (`on_demand`), or it waits

A replica that falls asleep to make room does so to the end, also where it is asked for again meanwhile: the room is another's.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from studio.v1.deployment_pb2 import Deployment
from studio.v1.event_pb2 import Event
from studio.v1.recipe_pb2 import Recipe
from studio.v1.replica_pb2 import Replica, StartProgress

from studio_coordinator.plan.fleet import Fleet
from studio_coordinator.plan.gpus import fitting
from studio_coordinator.plan.ladder import LEVELS, Demand, RestChange, is_at_rest, next_rest, sleep_levels
from studio_coordinator.plan.lifecycle import ROUTE_ON_ITS_WAY, to_sleep
from studio_coordinator.plan.occupancy import Held
from studio_coordinator.plan.on_demand import Activity, MakeWay, Step, make_way
from studio_coordinator.plan.sizing import UNKNOWN, Sizing
from studio_coordinator.plan.snapshot import Snapshot
from studio_coordinator.plan.wish import Wish, wish_of
from studio_coordinator.plan.worksheet import Worksheet

# Nothing runs that could be put to sleep.
WITHOUT_ENGINE = frozenset(
    {Replica.STATE_PENDING, Replica.STATE_PREPARING, Replica.STATE_FAILED, Replica.STATE_STOPPED}
)


def ladder_changes(snapshot: Snapshot, rows: Mapping[str, Replica]) -> dict[str, RestChange]:
    """What the idle ladder says now, by deployment; ``rows`` as they are folded in this pass."""
    own: dict[str, list[Replica]] = defaultdict(list)
    for row in rows.values():
        if not row.retiring:
            own[row.deployment].append(row)
    found = {}
    for deployment in snapshot.deployments:
        levels = levels_of(deployment, own[deployment.name], snapshot.recipes)
        demand = snapshot.demands.get(deployment.name)
        change = next_rest(deployment, own[deployment.name], levels, demand, snapshot.now)
        if change is not None:
            found[deployment.name] = change
    return found


def levels_of(deployment: Deployment, rows: Sequence[Replica], recipes: Mapping[tuple[str, int], Recipe]) -> int:
    """How deep all engines of the deployment can sleep; by its newest recipe where it has none."""
    if any(row.members for row in rows):
        return 0
    revisions = {(row.recipe_name, row.recipe_revision) for row in rows if row.host_id}
    revisions = revisions or {(deployment.spec.recipe, deployment.target_revision)}
    return sleep_levels(recipes.get(revision, Recipe()) for revision in revisions)


@dataclass
class Resting:
    """Private to one pass; ``fleet`` carries what was given to whom."""

    sheet: Worksheet
    fleet: Fleet
    recipes: Mapping[tuple[str, int], Recipe]
    sizes: Mapping[tuple[str, int], Sizing]
    activities: Mapping[str, Activity]
    demands: Mapping[str, Demand]
    # By name, as they rest from now on.
    deployments: dict[str, Deployment]
    changes: dict[str, RestChange]
    # Deployments of which a replica makes room for one that is wanted.
    made_way: list[str] = field(default_factory=list)
    # Wishes for which nobody makes way, and at which version of the fleet.
    _refused: dict[Wish, int] = field(default_factory=dict)

    @classmethod
    def begin(
        cls,
        snapshot: Snapshot,
        sheet: Worksheet,
        fleet: Fleet,
        deployments: dict[str, Deployment],
        changes: dict[str, RestChange],
    ) -> "Resting":
        """Of one pass; ``deployments`` and ``changes`` are kept up to date."""
        return cls(
            sheet, fleet, snapshot.recipes, snapshot.sizes, snapshot.activities, snapshot.demands, deployments, changes
        )

    def events(self) -> list[Event]:
        """What is told of deployments whose rest changes in this pass."""
        return [
            Event(
                at=self.sheet.now,
                severity=Event.SEVERITY_INFO,
                kind="deployment.woken" if change.rest == Deployment.REST_AWAKE else "deployment.rests",
                deployment=name,
                message=f"{name}: {change.reason}",
                actor="plan",
            )
            for name, change in sorted(self.changes.items())
        ]

    def lie_down(self, deployment: Deployment, rows: Sequence[Replica], may_stay: Callable[[Replica], bool]) -> None:
        """Have the replicas of a deployment that rests fall asleep; those that have nothing to keep go."""
        level = LEVELS[deployment.rest]
        for row in rows:
            if row.state == Replica.STATE_LOST or row.sleep_level >= level:
                continue
            if not row.host_id or row.state in WITHOUT_ENGINE or not may_stay(row):
                self._retire(row, deployment.rest_reason)
                continue
            row.sleep_level = level
            if row.engine_ready:
                self.sheet.move(row, Replica.STATE_DRAINING, to_sleep(row))
                self.fleet.leave(row.id)
            self.sheet.tell(row, "replica.to_sleep", f"{row.id} is to sleep: {deployment.rest_reason}")

    def rouse(self, deployment: Deployment, rows: Sequence[Replica]) -> None:
        """Wake the replicas of a deployment that is awake, as far as there is room."""
        for row in rows:
            if not row.sleep_level:
                continue
            if row.state == Replica.STATE_SLEEPING:
                self._rouse_sleeper(deployment, row)
            elif not row.engine_ready:
                row.sleep_level = 0
            elif not self._somebody_waits(row.deployment):
                row.sleep_level = 0
                row.state, row.state_reason = Replica.STATE_STARTING, ROUTE_ON_ITS_WAY
                row.progress.phase = StartProgress.PHASE_ROUTING

    def make_way(self, wish: Wish, waited_seconds: float) -> MakeWay | None:
        """Have replicas leave that come and go by demand, rather than to pre-empt or to wait; None where nobody does.

        For a deployment that somebody asks for, those of an equal priority do too; else only less important ones.
        """
        if self._refused.get(wish) == self.fleet.version:
            return None
        equals = self._is_asked_for(wish.deployment)
        candidates = {
            held.id: self.activities[held.id]
            for view in self.fleet.views
            for held in view.replicas.values()
            if held.id in self.activities
            and held.deployment != wish.deployment
            and (held.priority < wish.priority or (equals and held.priority == wish.priority))
        }
        way = make_way(self.fleet, wish, waited_seconds, candidates) if candidates else None
        if not isinstance(way, MakeWay):
            self._refused[wish] = self.fleet.version
            return None
        by_deployment: dict[str, list[Step]] = defaultdict(list)
        for step in way.steps:
            by_deployment[self.sheet.rows[step.replica_id].deployment].append(step)
        for name, steps in by_deployment.items():
            self._send_away(name, steps)
        return way

    def waited_seconds(self, deployment: Deployment, row: Replica) -> float:
        """For how long room has been wanted for ``row``."""
        since = deployment.rest_since if row.sleep_level else row.state_since
        return (self.sheet.now.ToMilliseconds() - since.ToMilliseconds()) / 1000

    def _rouse_sleeper(self, deployment: Deployment, row: Replica) -> None:
        revision = row.recipe_name, row.recipe_revision
        recipe = self.recipes.get(revision)
        if recipe is None:
            return
        wish = wish_of(deployment, recipe, self.sizes.get(revision, UNKNOWN))
        if self._has_room(row, wish):
            self._wake(row, wish)
        elif self.fleet.best(wish) is not None:
            self._retire(row, "others have its GPUs, and there is room elsewhere")
        else:
            here = replace(wish, hosts=(row.host_name,), gpus=replace(wish.gpus, pinned=frozenset(row.gpu_uuids)))
            if self.make_way(here, self.waited_seconds(deployment, row)) is not None:
                self._hold(row, wish)

    def _has_room(self, row: Replica, wish: Wish) -> bool:
        view = self.fleet.host_of(row.id)
        if view is None:
            # Its host is not there at present: it is told when it comes back.
            return True
        positions = set(view.positions(row.gpu_uuids))
        return len(positions) == len(row.gpu_uuids) and positions <= set(fitting(view.devices, view.taken, wish.gpus))

    def _wake(self, row: Replica, wish: Wish) -> None:
        row.sleep_level = 0
        self._hold(row, wish)
        self.sheet.tell(row, "replica.to_wake", f"{row.id} is to wake on {row.host_name}")

    def _hold(self, row: Replica, wish: Wish) -> None:
        """Count a sleeper in with the GPUs that it is to have again."""
        if self.fleet.host_of(row.id) is not None:
            self.fleet.remove(row.id)
            self.fleet.add(Held.at(row.id, wish, tuple(row.gpu_uuids)), row.host_id)

    def _is_asked_for(self, name: str) -> bool:
        deployment = self.deployments.get(name)
        return deployment is not None and deployment.rest == Deployment.REST_AWAKE

    def _somebody_waits(self, but: str) -> bool:
        """Whether a replica of another deployment has no room yet: it may be what this one falls asleep for."""
        rows = self.sheet.rows.values()
        return any(
            row.deployment != but
            and not row.retiring
            and (not row.host_id or (row.state == Replica.STATE_SLEEPING and self._is_asked_for(row.deployment)))
            for row in rows
        )

    def _send_away(self, name: str, steps: Sequence[Step]) -> None:
        """Have the replicas of one deployment make room; where that is all of it, it rests until it is asked for again."""
        rows = [row for row in self.sheet.of(name) if row.host_id]
        reason = steps[0].reason
        self.made_way += [name] * len(steps)
        if {row.id for row in rows} != {step.replica_id for step in steps}:
            for step in steps:
                self._retire(self.sheet.rows[step.replica_id], step.reason)
            return
        sleeps = all(step.sleep for step in steps)
        rest = Deployment.REST_SLEEP if sleeps else Deployment.REST_STOPPED
        self.send_to(self.deployments[name], rest, reason)
        if sleeps:
            self.lie_down(self.deployments[name], rows, lambda _: True)
        else:
            for step in steps:
                self._retire(self.sheet.rows[step.replica_id], step.reason)

    def send_to(self, deployment: Deployment, rest: Deployment.Rest.ValueType, reason: str) -> None:
        """Have the deployment rest so from now on, whatever this pass said before."""
        earlier = self.changes.get(deployment.name)
        change = RestChange.of(deployment, rest, reason)
        if earlier is not None:
            # What is stored is still what it was before this pass.
            change = replace(change, was_since=earlier.was_since)
        self.changes[deployment.name] = change
        self.deployments[deployment.name] = change.applied(deployment, self.sheet.now)

    def _retire(self, row: Replica, reason: str) -> None:
        self.sheet.retire(row, reason)
        self.fleet.leave(row.id)


def asked_first(deployments: Sequence[Deployment], demands: Mapping[str, Demand]) -> list[Deployment]:
    """Those for which requests wait before others of their priority, the longest wait first; else as they were."""

    def key(deployment: Deployment) -> tuple[int, float]:
        demand = demands.get(deployment.name)
        waited = demand.waited_seconds + 1 if demand is not None and demand.held else 0.0
        return -deployment.spec.priority, -waited if not is_at_rest(deployment) else 0.0

    return sorted(deployments, key=key)
