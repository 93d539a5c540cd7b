"""What a route without endpoints says: whether a request is held and its model woken, or refused, and with which sentence."""

from collections.abc import Sequence

from google.protobuf.duration_pb2 import Duration
from studio.v1.deployment_pb2 import Deployment
from studio.v1.replica_pb2 import Replica
from studio.v1.route_pb2 import Route

from studio_coordinator.plan.ladder import is_at_rest, is_on_ladder

DEFAULT_WAKE_DEADLINE = Duration(seconds=600)
DEFAULT_WAKE_QUEUE = 256


def tell_absence(route: Route, deployment: Deployment, rows: Sequence[Replica]) -> None:
    """Fill in why ``route`` has no endpoint, and what becomes of a request; ``rows`` are all replicas of the deployment."""
    name = deployment.name
    if deployment.stopped:
        route.unavailable_reason = f"{name} is stopped; start it with: studio start {name}"
        return
    if not is_on_ladder(deployment) or (not is_at_rest(deployment) and _all_gave_up(rows)):
        route.starting = True
        route.unavailable_reason = f"no replica of {name} is ready yet"
        return
    idle = deployment.spec.idle
    route.wakeable = True
    # The same from falling asleep to serving again: a table for each step between would only delay the one that counts.
    route.unavailable_reason = f"{name} is asleep, or on its way up"
    route.wake_deadline.CopyFrom(idle.wake_deadline if idle.HasField("wake_deadline") else DEFAULT_WAKE_DEADLINE)
    route.wake_queue = idle.wake_queue if idle.HasField("wake_queue") else DEFAULT_WAKE_QUEUE


def _all_gave_up(rows: Sequence[Replica]) -> bool:
    """Whether waiting is of no use until an operator does something."""
    staying = [row for row in rows if not row.retiring]
    return bool(staying) and all(row.state == Replica.STATE_FAILED and not row.HasField("retry_at") for row in staying)
