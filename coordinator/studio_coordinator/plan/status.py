"""A deployment's state, told from its replicas."""

from collections.abc import Sequence

from studio.v1.deployment_pb2 import Deployment
from studio.v1.replica_pb2 import Replica

from studio_coordinator.plan.course import kept_revision
from studio_coordinator.plan.ladder import is_at_rest
from studio_coordinator.plan.scale import wanted_replicas

COMING = frozenset({Replica.STATE_PENDING, Replica.STATE_PREPARING, Replica.STATE_STARTING, Replica.STATE_WAKING})


def with_state(deployment: Deployment, replicas: Sequence[Replica]) -> Deployment:
    """A copy of ``deployment`` with its state, reason and replica counts; ``replicas`` are its own."""
    told = Deployment()
    told.CopyFrom(deployment)
    if (kept := kept_revision(deployment)) is not None:
        told.target_revision = kept.number
    told.wanted_replicas = wanted_replicas(deployment)
    told.ready_replicas = sum(row.state == Replica.STATE_READY for row in replicas)
    told.state, told.state_reason = _judge(told, replicas)
    return told


def _judge(told: Deployment, replicas: Sequence[Replica]) -> tuple[Deployment.State.ValueType, str]:
    wanted, ready = told.wanted_replicas, told.ready_replicas
    if is_at_rest(told) and not told.stopped:
        return Deployment.STATE_ASLEEP, told.rest_reason
    if wanted == 0:
        if replicas:
            return Deployment.STATE_STOPPING, f"{len(replicas)} still running"
        return Deployment.STATE_STOPPED, "an operator stopped it" if told.stopped else "it wants no replica"
    if ready >= wanted:
        return Deployment.STATE_READY, f"{ready} of {wanted} serve"
    return _of_those_that_lack(ready, wanted, replicas)


def _of_those_that_lack(ready: int, wanted: int, replicas: Sequence[Replica]) -> tuple[Deployment.State.ValueType, str]:
    failed = [row for row in replicas if row.state == Replica.STATE_FAILED]
    if ready:
        return Deployment.STATE_DEGRADED, f"{ready} of {wanted} serve" + (
            f"; {failed[0].state_reason}" if failed else ""
        )
    if failed and not any(row.state in COMING or row.HasField("retry_at") for row in replicas):
        return Deployment.STATE_FAILED, failed[0].state_reason
    sleeper = next((row for row in replicas if row.state == Replica.STATE_SLEEPING and row.sleep_level), None)
    if sleeper is not None:
        return Deployment.STATE_PENDING, f"{sleeper.id} sleeps, and others have its GPUs on {sleeper.host_name}"
    waiting = next((row.state_reason for row in replicas if row.state_reason), "no replica yet")
    return Deployment.STATE_PENDING, waiting
