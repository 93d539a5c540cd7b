"""AdminService: how far a change of revision is, and the operator's word on it."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from studio.v1.admin_service_pb2 import (
    GetRolloutRequest,
    GetRolloutResponse,
    PauseRolloutRequest,
    PauseRolloutResponse,
    ResumeRolloutRequest,
    ResumeRolloutResponse,
    UndoRolloutRequest,
    UndoRolloutResponse,
)
from studio.v1.deployment_pb2 import Deployment, Rollout
from studio_runtime.errors import InvalidError

from studio_coordinator.plan.canary import judge
from studio_coordinator.plan.rollout import (
    CANARY,
    DONE,
    MOVING,
    PAUSED,
    REPLACE,
    ROLLED_BACK,
    SURGE,
    moved,
    new_revision,
    old_revision,
    phase_name,
)
from studio_coordinator.plan.status import with_state
from studio_coordinator.plan.steering import rollout_events
from studio_coordinator.rpc.guard import actor_of, guarded
from studio_coordinator.rpc.state import AdminState
from studio_coordinator.store import deployments, events, recipes, replicas

Context = grpc.aio.ServicerContext[Any, Any]
# From the rollout, its deployment's name, who says so, and now. Raises InvalidError where there is nothing to do.
Order = Callable[[Rollout, str, str, Timestamp], Rollout]


class Rollouts(AdminState):
    """Watch, pause, resume, undo."""

    @guarded
    async def GetRollout(self, request: GetRolloutRequest, _context: Context) -> GetRolloutResponse:  # noqa: N802
        """How far it is, with what the gateways have seen of a canary until now."""
        async with self.database.transaction() as conn:
            found = await deployments.get_deployment(conn, request.name)
            rows = await replicas.list_replicas(conn, request.name)
        told = with_state(found, rows)
        watched = self.snapshots.watched([found], rows).get(found.name)
        if watched is not None:
            _verdict, told.rollout.reason = judge(found.spec.rollout.canary, watched)
            told.rollout.old_figures.CopyFrom(watched.old.message)
            told.rollout.new_figures.CopyFrom(watched.new.message)
        return GetRolloutResponse(deployment=told, replicas=rows)

    @guarded
    async def PauseRollout(self, request: PauseRolloutRequest, context: Context) -> PauseRolloutResponse:  # noqa: N802
        """Have both revisions stay as they are."""
        return PauseRolloutResponse(deployment=await self._steer(request, context, paused))

    @guarded
    async def ResumeRollout(self, request: ResumeRolloutRequest, context: Context) -> ResumeRolloutResponse:  # noqa: N802
        """Go on where it was paused, go on without more of a canary's requests, or try again what was rolled back."""
        return ResumeRolloutResponse(deployment=await self._steer(request, context, resumed, tried_anew=True))

    @guarded
    async def UndoRollout(self, request: UndoRolloutRequest, context: Context) -> UndoRolloutResponse:  # noqa: N802
        """Go back to the revision that served before, whatever the manifest names."""
        return UndoRolloutResponse(deployment=await self._steer(request, context, undone))

    async def _steer(
        self,
        request: PauseRolloutRequest | ResumeRolloutRequest | UndoRolloutRequest,
        context: Context,
        order: Order,
        *,
        tried_anew: bool = False,
    ) -> Deployment:
        self.leadership.require()
        actor, now = actor_of(context), datetime.now(UTC)
        at = Timestamp()
        at.FromDatetime(now)
        async with self.database.transaction() as conn:
            if order is undone:
                before = _rollout_of(await deployments.get_deployment(conn, request.name))
                # Its recipe may have been deleted since.
                await recipes.get_recipe(conn, before.from_recipe, before.from_revision)
            changed = await deployments.steer_rollout(
                conn,
                request.name,
                lambda deployment: order(_rollout_of(deployment), deployment.name, actor, at),
                actor,
                now,
                request.expected_version,
                tried_anew=tried_anew,
            )
            await events.append(conn, list(rollout_events([changed], at)))
            rows = await replicas.list_replicas(conn, request.name)
        self.desired_changed()
        return with_state(changed, rows)


def paused(rollout: Rollout, name: str, actor: str, now: Timestamp) -> Rollout:
    """The order to stand still."""
    if rollout.phase not in MOVING:
        raise InvalidError(f"the rollout of {name} does not move: it is {phase_name(rollout.phase)}", _look(name))
    return moved(rollout, PAUSED, f"{actor} paused it", now, actor)


def resumed(rollout: Rollout, name: str, actor: str, now: Timestamp) -> Rollout:
    """The order to go on."""
    if rollout.phase == PAUSED:
        return moved(rollout, rollout.paused_in, f"{actor} resumed it", now, actor)
    if rollout.phase == CANARY:
        return moved(rollout, REPLACE, f"{actor} has seen enough of the canary", now, actor)
    if rollout.phase == ROLLED_BACK:
        return moved(rollout, SURGE, f"{actor} has {new_revision(rollout)} tried again", now, actor)
    raise InvalidError(f"the rollout of {name} is {phase_name(rollout.phase)}: nothing holds it up", _look(name))


def undone(rollout: Rollout, name: str, actor: str, now: Timestamp) -> Rollout:
    """The order to go back."""
    if rollout.phase == ROLLED_BACK:
        raise InvalidError(
            f"{name} is back at {old_revision(rollout)} already",
            f"studio rollout resume {name} tries {new_revision(rollout)} again.",
        )
    if old_revision(rollout) == new_revision(rollout):
        raise InvalidError(f"no other revision of {name} served before {new_revision(rollout)}", _look(name))
    was = "after it was done" if rollout.phase == DONE else f"during {phase_name(rollout.phase)}"
    return moved(rollout, ROLLED_BACK, f"{actor} undid it {was}", now, actor)


def _rollout_of(deployment: Deployment) -> Rollout:
    if not deployment.HasField("rollout"):
        raise InvalidError(
            f"{deployment.name} has never changed its revision while it served",
            f"A rollout begins when a recipe that serves is changed: studio recipes history {deployment.spec.recipe}",
        )
    return deployment.rollout


def _look(name: str) -> str:
    return f"studio rollout status {name} tells how it stands."
