"""Of which revisions a deployment's replicas are to be, while it changes from one to another, and how traffic is shared.

=========================== ========================================= ===========================================
phase                       old revision                              new revision
=========================== ========================================= ===========================================
SURGE, CANARY               as many as wanted                         the tried ones, with the canary's share
PAUSED in SURGE or CANARY   as many as wanted                         as many as there are, with the canary's share
PAUSED in REPLACE           as many as there are, and what is missing as many as there are
REPLACE, DONE               makes way, one by one                     as many as wanted
ROLLED_BACK                 as many as wanted                         makes way, one by one
=========================== ========================================= ===========================================
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from studio.v1.deployment_pb2 import Deployment
from studio.v1.replica_pb2 import Replica

from studio_coordinator.plan.rollout import (
    CANARY,
    MOVING,
    PAUSED,
    REPLACE,
    RESTING,
    ROLLED_BACK,
    SURGE,
    Revision,
    canary_replicas,
    named_revision,
    new_revision,
    old_revision,
    revision_of,
    serves,
)


@dataclass(frozen=True)
class Course:
    """What the replicas of one deployment are to become."""

    # What every replica is to be that is not one of the tried.
    target: Revision
    # The revision that is tried beside it, and how many replicas of it; None: none is.
    tried: Revision | None = None
    tries: int = 0
    # Replicas of the tried revision count for those that the target lacks.
    shares_places: bool = False
    # Where there is no room for the tried one, a replica of the target may go for it.
    drains_first: bool = False

    def wanted_of_target(self, wanted: int, of_target: int, of_tried: int) -> int:
        """How many replicas of the target there should be, of which ``of_target`` are there, beside ``of_tried`` others."""
        return max(wanted - of_tried, min(of_target, wanted)) if self.shares_places else wanted


def course_of(deployment: Deployment, rows: Sequence[Replica], wanted: int) -> Course:
    """The course that follows from the deployment's rollout, as it is from now on."""
    if not deployment.HasField("rollout"):
        return Course(_without_rollout(deployment, rows))
    rollout, policy = deployment.rollout, deployment.spec.rollout
    old, new = old_revision(rollout), new_revision(rollout)
    drains = policy.drain_first_allowed
    if rollout.phase == PAUSED or (rollout.phase in MOVING and deployment.rest in RESTING):
        stands_in = rollout.paused_in if rollout.phase == PAUSED else rollout.phase
        there = [row for row in rows if revision_of(row) == new]
        if stands_in == REPLACE:
            # One that is lost is made up for by the old revision: nothing new is begun.
            present = sum(row.state != Replica.STATE_LOST for row in there)
            return Course(old, new, present, shares_places=True)
        return Course(old, new, min(len(there), canary_replicas(policy, wanted)), shares_places=drains)
    if rollout.phase in (SURGE, CANARY):
        return Course(old, new, canary_replicas(policy, wanted), shares_places=drains, drains_first=drains)
    return Course(old if rollout.phase == ROLLED_BACK else new)


def on_revision(deployment: Deployment, revision: Revision) -> Deployment:
    """The deployment as if its manifest named ``revision``; itself where it does."""
    if named_revision(deployment) == revision:
        return deployment
    copy = Deployment()
    copy.CopyFrom(deployment)
    copy.spec.recipe, copy.target_revision = revision
    return copy


def traffic_weights(deployment: Deployment, serving: Sequence[Replica]) -> Mapping[str, float]:
    """Weight by replica id: the new revision together gets the canary's share while it is watched, else all are equal."""
    rollout, policy = deployment.rollout, deployment.spec.rollout
    phase = rollout.paused_in if rollout.phase == PAUSED else rollout.phase
    new = new_revision(rollout)
    tried = [row.id for row in serving if revision_of(row) == new]
    others = [row.id for row in serving if revision_of(row) != new]
    if phase not in (SURGE, CANARY) or not (tried and others and policy.HasField("canary")):
        return dict.fromkeys([*tried, *others], 1.0)
    share = policy.canary.share
    if share >= 1:
        return dict.fromkeys(tried, 1.0) | dict.fromkeys(others, 0.0)
    each = share / (1 - share) * len(others) / len(tried)
    return dict.fromkeys(tried, each) | dict.fromkeys(others, 1.0)


def kept_revision(deployment: Deployment) -> Revision | None:
    """The revision that serves although the manifest names another, which was rolled back; None where none was."""
    rollout = deployment.rollout
    is_kept = rollout.phase == ROLLED_BACK and new_revision(rollout) == named_revision(deployment)
    return old_revision(rollout) if is_kept else None


def _without_rollout(deployment: Deployment, rows: Sequence[Replica]) -> Revision:
    named = named_revision(deployment)
    if deployment.rest in RESTING:
        # What sleeps wakes as it is; the change begins once it is awake.
        asleep = sorted(revision_of(row) for row in rows if serves(row))
        return asleep[-1] if asleep else named
    return named
