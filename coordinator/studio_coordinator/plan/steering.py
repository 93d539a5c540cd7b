"""Every deployment's rollout moved on as its replicas and its figures say, and what of it is to be stored and told."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from google.protobuf.timestamp_pb2 import Timestamp
from studio.v1.deployment_pb2 import Deployment, Rollout
from studio.v1.event_pb2 import Event
from studio.v1.replica_pb2 import Replica

from studio_coordinator.plan.canary import Watched
from studio_coordinator.plan.rollout import (
    PAUSED,
    ROLLED_BACK,
    advance,
    finished,
    new_revision,
    old_revision,
    phase_name,
)
from studio_coordinator.plan.scale import wanted_replicas

UNWATCHED = Watched()


def steered(
    deployments: Sequence[Deployment], rows: Iterable[Replica], watches: Mapping[str, Watched], now: Timestamp
) -> list[Deployment]:
    """The deployments with their rollouts as they are from now on; untouched ones are the same objects."""
    staying = _by_deployment(rows)
    found = []
    for deployment in deployments:
        name = deployment.name
        rollout = advance(deployment, staying[name], wanted_replicas(deployment), watches.get(name, UNWATCHED), now)
        found.append(_with_rollout(deployment, rollout))
    return found


def settled(deployments: Sequence[Deployment], rows: Iterable[Replica], now: Timestamp) -> list[Deployment]:
    """The deployments once their replicas were planned: a rollout whose last old replica goes is done."""
    staying = _by_deployment(rows)
    return [
        _with_rollout(deployment, finished(deployment.rollout, staying[deployment.name], now))
        if deployment.HasField("rollout")
        else deployment
        for deployment in deployments
    ]


def changed(before: Sequence[Deployment], after: Sequence[Deployment]) -> dict[str, Deployment]:
    """Deployments of which the rollout is to be stored, by name."""
    return {new.name: new for old, new in zip(before, after, strict=True) if old.rollout != new.rollout}


def rollout_events(deployments: Iterable[Deployment], now: Timestamp) -> Iterator[Event]:
    """What is told of rollouts that moved."""
    for deployment in deployments:
        rollout = deployment.rollout
        phase = phase_name(rollout.phase)
        yield Event(
            at=now,
            severity=Event.SEVERITY_WARNING if rollout.phase in (PAUSED, ROLLED_BACK) else Event.SEVERITY_INFO,
            kind=f"rollout.{phase.replace(' ', '_')}",
            deployment=deployment.name,
            reason=phase.replace(" ", "_"),
            message=f"{deployment.name} {old_revision(rollout)} → {new_revision(rollout)} {phase}: {rollout.reason}",
            actor=rollout.actor,
        )


def _by_deployment(rows: Iterable[Replica]) -> Mapping[str, list[Replica]]:
    staying: dict[str, list[Replica]] = defaultdict(list)
    for row in rows:
        if not row.retiring:
            staying[row.deployment].append(row)
    return staying


def _with_rollout(deployment: Deployment, rollout: Rollout | None) -> Deployment:
    if rollout is None or rollout == deployment.rollout:
        return deployment
    copy = Deployment()
    copy.CopyFrom(deployment)
    copy.rollout.CopyFrom(rollout)
    return copy
