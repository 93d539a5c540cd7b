"""How far a start is: the words for one replica, and the verdict for a deployment.

::

    WAITING ──► READY     as many replicas of the target revision serve as are wanted
       │  │               (or it sleeps: the next request wakes it)
       │  ╰───► STOPPED   an operator stopped the deployment: nothing will start
       ╰──────► FAILED    nothing is being tried any more, or trying again cannot help
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from studio.v1.deployment_pb2 import Deployment, Rollout
from studio.v1.replica_pb2 import Failure, Replica, StartProgress

from studio_cli import wording

# Below these an estimate of the time left says nothing.
ESTIMATE_AFTER_SECONDS = 3.0
ESTIMATE_FROM_SHARE = 0.05

# Nothing to speak of.
SOON_SECONDS = 0.1


class Verdict(Enum):
    """Whether there is something to wait for."""

    WAITING = "waiting"
    READY = "ready"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(frozen=True)
class Standing:
    """A deployment's verdict; ``lines`` say how far each replica is, ``failure`` why it failed."""

    verdict: Verdict
    lines: tuple[str, ...] = ()
    failure: Failure | None = None
    hosts: tuple[str, ...] = ()
    # Base URLs of the engines that serve.
    endpoints: tuple[str, ...] = ()


def judge(deployment: Deployment, replicas: Sequence[Replica], now: datetime) -> Standing:
    """How ``deployment`` stands, given its ``replicas``."""
    if deployment.stopped:
        return Standing(Verdict.STOPPED)
    if deployment.state == Deployment.STATE_ASLEEP:
        return Standing(Verdict.READY)
    if (trouble := rollout_trouble(deployment)) is not None:
        return Standing(Verdict.FAILED, failure=trouble)
    current = [replica for replica in replicas if is_current(replica, deployment)]
    serving = [replica for replica in current if replica.state == Replica.STATE_READY]
    if len(serving) >= wanted(deployment):
        return Standing(
            Verdict.READY,
            hosts=tuple(replica.host_name for replica in serving),
            endpoints=tuple(replica.base_url for replica in serving if replica.base_url),
        )
    lost = [replica for replica in current if is_beyond_retry(replica)]
    if deployment.state == Deployment.STATE_FAILED or (lost and len(lost) == len(current)):
        return Standing(Verdict.FAILED, failure=cause_of(deployment, current))
    waiting = [replica for replica in current if replica.state != Replica.STATE_READY]
    lines = tuple(f"{replica.id} {describe_replica(replica, now)}" for replica in waiting)
    if not lines and deployment.rollout.reason:
        lines = (deployment.rollout.reason,)
    return Standing(Verdict.WAITING, lines or (deployment.state_reason or "waiting to be placed",))


def describe_ready(standing: Standing, took_seconds: float) -> str:
    """``ready on lab-1 in 0.8 s``; without the time where it was there already."""
    places = sorted(set(standing.hosts) - {""})
    took = f" in {wording.seconds(took_seconds)}" if took_seconds >= SOON_SECONDS else ""
    return f"ready{' on ' + ', '.join(places) if places else ''}{took}"


def is_current(replica: Replica, deployment: Deployment) -> bool:
    """Whether ``replica`` is of the revision that is wanted now, and meant to stay."""
    revision = deployment.target_revision
    return not replica.retiring and revision in (0, replica.recipe_revision)


def rollout_trouble(deployment: Deployment) -> Failure | None:
    """That the revision which the manifest names does not take over, since the deployment was last changed; None: it does."""
    rollout, name = deployment.rollout, deployment.name
    if rollout.phase == Rollout.PHASE_PAUSED and rollout.to_revision == deployment.target_revision:
        return Failure(reason="paused", message=rollout.reason, hint=f"studio rollout resume {name} goes on.")
    newer = rollout.since.ToNanoseconds() > deployment.updated_at.ToNanoseconds()
    if rollout.phase == Rollout.PHASE_ROLLED_BACK and newer and rollout.from_revision == deployment.target_revision:
        hint = f"studio rollout resume {name} tries r{rollout.to_revision} again; a newer revision begins anew."
        return Failure(reason="rolled_back", message=rollout.reason, hint=hint)
    return None


def wanted(deployment: Deployment) -> int:
    """How many replicas have to serve; read from the specification too, because the plan may not have run since it changed."""
    replicas = deployment.spec.replicas
    return max(deployment.wanted_replicas, replicas.min if replicas.HasField("min") else 1)


def is_beyond_retry(replica: Replica) -> bool:
    """Whether ``replica`` failed and is not tried again by itself."""
    return replica.state == Replica.STATE_FAILED and not replica.HasField("retry_at")


def cause_of(deployment: Deployment, replicas: Sequence[Replica]) -> Failure:
    """Why ``deployment`` failed: what the latest failed replica says, else the deployment itself."""
    failures = [replica.failure for replica in replicas if replica.HasField("failure")]
    if failures:
        return max(failures, key=lambda failure: failure.at.ToNanoseconds())
    return Failure(reason="failed", message=deployment.state_reason or "no replica could be started")


def describe_replica(replica: Replica, now: datetime) -> str:
    """What ``replica`` does and how far it is: ``on lab-1: weights 71 %, shard 3 of 8, about 25 s left``."""
    place = f"on {replica.host_name}: " if replica.host_name else ""
    if replica.state == Replica.STATE_FAILED:
        return f"{place}failed: {describe_failed(replica, now)}"
    if replica.HasField("progress") and replica.progress.phase:
        return place + describe_progress(replica.progress, now)
    state = Replica.State.Name(replica.state).removeprefix("STATE_").lower()
    return f"{place}{state}" + (f": {replica.state_reason}" if replica.state_reason else "")


def describe_progress(progress: StartProgress, now: datetime) -> str:
    """The phase, its share, its detail and what is left of it."""
    words = [StartProgress.Phase.Name(progress.phase).removeprefix("PHASE_").lower().replace("_", " ")]
    if progress.HasField("share"):
        words[0] += f" {wording.share(progress.share)}"
    if progress.detail:
        words.append(progress.detail)
    if left := seconds_left(progress, now):
        words.append(f"about {wording.duration(left)} left")
    return ", ".join(words)


def seconds_left(progress: StartProgress, now: datetime) -> float:
    """An even continuation of the phase so far; 0 where nothing can be said."""
    if not progress.HasField("share") or not progress.HasField("phase_since"):
        return 0.0
    elapsed = (now - wording.moment(progress.phase_since)).total_seconds()
    if elapsed < ESTIMATE_AFTER_SECONDS or not ESTIMATE_FROM_SHARE <= progress.share < 1:
        return 0.0
    return elapsed * (1 - progress.share) / progress.share


def describe_failed(replica: Replica, now: datetime) -> str:
    """Why ``replica`` failed, and when it is tried again."""
    reason = replica.failure.reason or replica.state_reason or "failed"
    message = f": {replica.failure.message.rstrip('.')}" if replica.failure.message else ""
    return f"{reason}{message}; {describe_retry(replica, now)}"


def describe_retry(replica: Replica, now: datetime) -> str:
    """When a failed replica is tried again."""
    if not replica.HasField("retry_at"):
        return "not tried again by itself"
    seconds = (wording.moment(replica.retry_at) - now).total_seconds()
    return f"tried again in {wording.duration(seconds)}" if seconds >= 1 else "tried again now"
