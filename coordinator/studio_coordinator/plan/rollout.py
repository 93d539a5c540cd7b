"""How far a deployment's change from one recipe revision to another is, and what comes next.

::

    another revision is named, and the old one serves
        │
        ▼    first replica READY                  figures are good            no old replica is left
      SURGE ────────────────────▶ CANARY ────────────────────▶ REPLACE ────────────────────▶ DONE
        │ ╲  (no canary wanted)     │                         ▲   │                           │
        │  ╲────────────────────────┼─────────────────────────╯   │                           │
        │                           │                             │                           │ undo
        ├──── a replica of the new revision failed, or its figures are bad, or undo ──────────┤
        │                                                                                     ▼
        ├──────────────────────────── the policy is `rollback` ────────────────────────▶ ROLLED_BACK
        │                                                                                 ▲       │
        ╰── the policy is `pause`, or an operator pauses ──▶ PAUSED ─────── undo ─────────╯       │
            (resume: back to where it was paused)                                                 │
      SURGE ◀───────────────────────────────── resume: tried again ───────────────────────────────╯

The old revision keeps all of its replicas until the new one passed SURGE and CANARY; in REPLACE an old replica goes only once a
new one is READY. So whatever becomes of the new revision, the old one serves or comes back beside it. ROLLED_BACK stays although
the manifest still names the new revision: only another revision, or an operator's resume, begins anew.

A revision that is named while nothing of an older one serves needs no rollout: there is nothing that it could harm.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import ceil
from typing import NamedTuple, TypeAlias

from google.protobuf.timestamp_pb2 import Timestamp
from studio.v1.deployment_pb2 import Deployment, Rollout, RolloutPolicy
from studio.v1.replica_pb2 import Replica

from studio_coordinator.plan.canary import Verdict, Watched, judge

Phase: TypeAlias = Rollout.Phase.ValueType

SURGE, CANARY, REPLACE = Rollout.PHASE_SURGE, Rollout.PHASE_CANARY, Rollout.PHASE_REPLACE
PAUSED, ROLLED_BACK, DONE = Rollout.PHASE_PAUSED, Rollout.PHASE_ROLLED_BACK, Rollout.PHASE_DONE
MOVING = frozenset({SURGE, CANARY, REPLACE})

# Within one rollout; another revision begins a new one, in SURGE, from every phase (and stays PAUSED where the old one was).
TRANSITIONS: Mapping[Phase, frozenset[Phase]] = {
    SURGE: frozenset({CANARY, REPLACE, PAUSED, ROLLED_BACK, DONE}),
    CANARY: frozenset({REPLACE, PAUSED, ROLLED_BACK, DONE}),
    REPLACE: frozenset({DONE, PAUSED, ROLLED_BACK}),
    PAUSED: frozenset({SURGE, CANARY, REPLACE, ROLLED_BACK, DONE}),
    ROLLED_BACK: frozenset({SURGE, DONE}),
    DONE: frozenset({ROLLED_BACK}),
}

RESTING = frozenset({Deployment.REST_SLEEP, Deployment.REST_DEEP_SLEEP, Deployment.REST_STOPPED})
ASLEEP = frozenset({Replica.STATE_SLEEPING, Replica.STATE_WAKING})


class Revision(NamedTuple):
    """One immutable revision of a recipe."""

    recipe: str
    number: int

    def __str__(self) -> str:
        return f"r{self.number}"


def revision_of(row: Replica) -> Revision:
    """What a replica runs."""
    return Revision(row.recipe_name, row.recipe_revision)


def named_revision(deployment: Deployment) -> Revision:
    """What the manifest names."""
    return Revision(deployment.spec.recipe, deployment.target_revision)


def old_revision(rollout: Rollout) -> Revision:
    """Where it comes from."""
    return Revision(rollout.from_recipe, rollout.from_revision)


def new_revision(rollout: Rollout) -> Revision:
    """Where it goes."""
    return Revision(rollout.to_recipe, rollout.to_revision)


def phase_name(phase: Phase) -> str:
    """As people say it: ``rolled back``."""
    return Rollout.Phase.Name(phase).removeprefix("PHASE_").lower().replace("_", " ")


def serves(row: Replica) -> bool:
    """Whether requests are, or could at once be, answered by it."""
    return row.engine_ready or row.state in ASLEEP


def advance(
    deployment: Deployment, rows: Sequence[Replica], wanted: int, watched: Watched, now: Timestamp
) -> Rollout | None:
    """The rollout as it should be now; None where there never was one. Equal to the stored one when nothing changes.

    ``rows``: the deployment's replicas that are to stay; ``wanted``: how many replicas it should have.
    """
    stored = deployment.rollout if deployment.HasField("rollout") else None
    if deployment.rest in RESTING or deployment.state == Deployment.STATE_STOPPING:
        return stored
    if stored is None or new_revision(stored) != named_revision(deployment):
        stored = _begin(deployment, stored, rows, now)
    if stored is None or stored.phase not in MOVING or wanted == 0:
        return stored
    return _step(deployment, stored, rows, wanted, watched, now)


def finished(rollout: Rollout, rows: Iterable[Replica], now: Timestamp) -> Rollout:
    """DONE, when the last old replica is on its way out; else ``rollout`` itself. For after the rows were planned."""
    new = new_revision(rollout)
    if rollout.phase != REPLACE or not all(revision_of(row) == new for row in rows):
        return rollout
    if not any(row.state == Replica.STATE_READY for row in rows):
        return rollout
    return moved(rollout, DONE, f"every replica is of {new}", now)


def moved(rollout: Rollout, phase: Phase, reason: str, now: Timestamp, actor: str = "plan") -> Rollout:
    """A copy in another phase."""
    copy = Rollout()
    copy.CopyFrom(rollout)
    copy.phase, copy.reason, copy.actor = phase, reason, actor
    copy.paused_in = rollout.phase if phase == PAUSED else Rollout.PHASE_UNSPECIFIED
    copy.since.CopyFrom(now)
    return copy


def _begin(deployment: Deployment, stored: Rollout | None, rows: Sequence[Replica], now: Timestamp) -> Rollout | None:
    """The manifest names a revision that the stored rollout, if any, does not go to."""
    named = named_revision(deployment)
    serving = Counter(revision_of(row) for row in rows if serves(row))
    if stored is None:
        before = [revision for revision in serving if revision != named]
        if not before:
            return None
        return _from_to(max(before, key=lambda one: (serving[one], one)), named, SURGE, f"{named} is named", now)
    settled = [new_revision(stored)] if stored.phase == DONE else [old_revision(stored), new_revision(stored)]
    if stored.phase != DONE and named == old_revision(stored):
        # What was tried has never taken over: there is nothing else to go back to.
        return _from_to(named, named, DONE, f"{named} is named again, which serves", now)
    base = next((revision for revision in settled if serving[revision]), None)
    if base is None:
        return _from_to(settled[0], named, DONE, f"no replica of {settled[0]} served", now)
    begun = _from_to(base, named, SURGE, f"{named} is named", now)
    if stored.phase == PAUSED:
        return moved(
            begun, PAUSED, f"{named} is named; an earlier change was paused: {stored.reason}", now, stored.actor
        )
    return begun


def _from_to(old: Revision, new: Revision, phase: Phase, reason: str, now: Timestamp) -> Rollout:
    return Rollout(
        from_recipe=old.recipe,
        from_revision=old.number,
        to_recipe=new.recipe,
        to_revision=new.number,
        phase=phase,
        reason=reason,
        since=now,
        actor="plan",
    )


def _step(
    deployment: Deployment, rollout: Rollout, rows: Sequence[Replica], wanted: int, watched: Watched, now: Timestamp
) -> Rollout:
    """One rollout that moves: on to the next phase, given up, or as it is."""
    policy, new = deployment.spec.rollout, new_revision(rollout)
    tried = [row for row in rows if revision_of(row) == new]
    broken = next((row for row in tried if _gave_up(row, deployment)), None)
    if broken is not None:
        return given_up(rollout, policy, f"{broken.id} failed: {broken.state_reason}", now)
    ready = sum(row.state == Replica.STATE_READY for row in tried)
    if rollout.phase == SURGE and ready >= (canary_replicas(policy, wanted) if policy.HasField("canary") else 1):
        if policy.HasField("canary"):
            return moved(rollout, CANARY, f"{new} gets {policy.canary.share:.0%} of the traffic and is watched", now)
        return moved(rollout, REPLACE, f"{new} serves; no canary is wanted", now)
    if rollout.phase == CANARY and ready:
        verdict, reason = judge(policy.canary, watched)
        if verdict == Verdict.HEALTHY:
            return _with_figures(moved(rollout, REPLACE, f"{new} does well: {reason}", now), watched)
        if verdict == Verdict.UNHEALTHY:
            return _with_figures(given_up(rollout, policy, reason, now), watched)
    return rollout


def given_up(rollout: Rollout, policy: RolloutPolicy, reason: str, now: Timestamp) -> Rollout:
    """A rollout whose new revision failed: rolled back, or paused where the policy says so."""
    if policy.on_failure == "pause":
        return moved(rollout, PAUSED, f"{reason}; both revisions stay as they are, as on_failure: pause says", now)
    return moved(rollout, ROLLED_BACK, f"{reason}; {old_revision(rollout)} kept serving", now)


def canary_replicas(policy: RolloutPolicy, wanted: int) -> int:
    """How many replicas of the new revision are tried beside the old ones."""
    surge = max(1, policy.surge)
    if not policy.HasField("canary"):
        return min(surge, wanted)
    # As many as its share of the traffic needs; rounded first, so that 10 % of 10 is 1.
    return max(1, min(surge, wanted, ceil(round(policy.canary.share * wanted, 6))))


def _gave_up(row: Replica, deployment: Deployment) -> bool:
    """Whether it failed, and is not about to be tried anew by an operator's word."""
    return row.state == Replica.STATE_FAILED and row.generation > deployment.tries


def _with_figures(rollout: Rollout, watched: Watched) -> Rollout:
    rollout.old_figures.CopyFrom(watched.old.message)
    rollout.new_figures.CopyFrom(watched.new.message)
    return rollout
