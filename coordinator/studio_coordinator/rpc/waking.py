"""AdminService, how deep deployments rest: what requests and time do, done by an operator."""

from datetime import UTC, datetime
from typing import Any

import grpc
from studio.v1.admin_service_pb2 import (
    SleepDeploymentRequest,
    SleepDeploymentResponse,
    WakeDeploymentRequest,
    WakeDeploymentResponse,
)
from studio.v1.deployment_pb2 import Deployment
from studio.v1.event_pb2 import Event
from studio_runtime.errors import ConflictError, InvalidError

from studio_coordinator.plan.ladder import LEVELS, is_at_rest
from studio_coordinator.plan.resting import levels_of
from studio_coordinator.plan.status import with_state
from studio_coordinator.rpc.guard import actor_of, guarded
from studio_coordinator.rpc.state import AdminState
from studio_coordinator.store import deployments, events, recipes, replicas
from studio_coordinator.store.database import Connection

Context = grpc.aio.ServicerContext[Any, Any]

# What an operator did to it.
DONE = {
    Deployment.REST_AWAKE: "woke it",
    Deployment.REST_SLEEP: "sent it to sleep",
    Deployment.REST_DEEP_SLEEP: "sent it to deep sleep",
    Deployment.REST_STOPPED: "stopped it until somebody asks for it",
}


class Waking(AdminState):
    """Calls that send a deployment up or down the idle ladder; time and requests move it on from there."""

    @guarded
    async def WakeDeployment(  # noqa: N802 - the contract's name
        self, request: WakeDeploymentRequest, context: Context
    ) -> WakeDeploymentResponse:
        """Bring it up now, as a request would. Nothing happens to one that is awake."""
        self.leadership.require()
        async with self.database.transaction() as conn:
            deployment = await deployments.get_deployment(conn, request.name)
            _refuse_stopped(deployment)
            if is_at_rest(deployment):
                await _send_to(conn, deployment, Deployment.REST_AWAKE, actor_of(context))
            told = await self._told(conn, request.name)
        self.desired_changed()
        return WakeDeploymentResponse(deployment=told)

    @guarded
    async def SleepDeployment(  # noqa: N802 - the contract's name
        self, request: SleepDeploymentRequest, context: Context
    ) -> SleepDeploymentResponse:
        """Send it down now; what runs finishes first, and the next request wakes it."""
        self.leadership.require()
        rest = request.rest or Deployment.REST_SLEEP
        if rest not in (*LEVELS, Deployment.REST_STOPPED):
            raise InvalidError("a deployment can be sent to sleep, to deep sleep, or be stopped")
        async with self.database.transaction() as conn:
            deployment = await deployments.get_deployment(conn, request.name)
            _refuse_stopped(deployment)
            await _refuse_too_deep(conn, deployment, rest)
            if deployment.rest == Deployment.REST_STOPPED and rest != Deployment.REST_STOPPED:
                raise ConflictError(
                    f"no engine of {request.name} runs that could sleep: {deployment.rest_reason}",
                    f"A request wakes it, or: studio wake {request.name}",
                )
            if deployment.rest != rest:
                await _send_to(conn, deployment, rest, actor_of(context))
            told = await self._told(conn, request.name)
        self.desired_changed()
        return SleepDeploymentResponse(deployment=told)

    async def _told(self, conn: Connection, name: str) -> Deployment:
        deployment = await deployments.get_deployment(conn, name)
        return with_state(deployment, await replicas.list_replicas(conn, name))


async def _send_to(conn: Connection, deployment: Deployment, rest: Deployment.Rest.ValueType, actor: str) -> None:
    now = datetime.now(UTC)
    reason = f"{actor or 'an operator'} {DONE[rest]}"
    was_since = deployment.rest_since if deployment.HasField("rest_since") else None
    if not await deployments.set_rest(conn, deployment.name, rest, reason, now, was_since):
        raise ConflictError(f"{deployment.name} was woken or sent to rest at this moment", "Try again.")
    kind = "deployment.woken" if rest == Deployment.REST_AWAKE else "deployment.rests"
    event = Event(
        severity=Event.SEVERITY_INFO,
        kind=kind,
        deployment=deployment.name,
        message=f"{deployment.name}: {reason}",
        actor=actor,
    )
    event.at.FromDatetime(now)
    await events.append(conn, [event])


def _refuse_stopped(deployment: Deployment) -> None:
    if deployment.stopped:
        raise ConflictError(
            f"{deployment.name} is stopped by an operator: it neither sleeps nor wakes",
            f"Start it: studio start {deployment.name}",
        )


async def _refuse_too_deep(conn: Connection, deployment: Deployment, rest: Deployment.Rest.ValueType) -> None:
    level = LEVELS.get(rest, 0)
    if not level:
        return
    rows = await replicas.list_replicas(conn, deployment.name)
    revisions = {(row.recipe_name, row.recipe_revision) for row in rows}
    known = await recipes.revisions(conn, revisions | {(deployment.spec.recipe, deployment.target_revision)})
    can = levels_of(deployment, rows, known)
    if can < level:
        what = "so deeply" if can else "at all"
        raise InvalidError(
            f"the engine of {deployment.name} cannot sleep {what}",
            "vLLM, SGLang and the demo engine sleep where the recipe sets args.sleep_mode. "
            f"To free its GPUs all the same: studio sleep {deployment.name} --stop",
        )
