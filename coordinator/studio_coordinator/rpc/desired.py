"""AdminService, what operators want: apply, stop, start, scale, delete."""

import asyncio
import hashlib
from datetime import UTC, datetime
from typing import Any

import grpc
from studio.v1.admin_service_pb2 import (
    Applied,
    ApplyRequest,
    ApplyResponse,
    DeleteDeploymentRequest,
    DeleteDeploymentResponse,
    DeleteRecipeRequest,
    DeleteRecipeResponse,
    ScaleDeploymentRequest,
    ScaleDeploymentResponse,
    StartDeploymentRequest,
    StartDeploymentResponse,
    StopDeploymentRequest,
    StopDeploymentResponse,
)
from studio.v1.event_pb2 import Event
from studio_runtime.errors import InvalidManifestError
from studio_runtime.tracing import current_traceparent

from studio_coordinator.access.admission import admit, admit_changes, require_deployable
from studio_coordinator.access.caller import current_caller
from studio_coordinator.access.journal import note_objects
from studio_coordinator.manifest import Parsed, parse
from studio_coordinator.rpc.fleet_state import FleetWriter, check_fleet
from studio_coordinator.rpc.guard import actor_of, guarded
from studio_coordinator.rpc.state import AdminState
from studio_coordinator.store import deployments, events, idempotency, recipes
from studio_coordinator.store.database import Connection

Context = grpc.aio.ServicerContext[Any, Any]

OUTCOMES = {
    Applied.OUTCOME_CREATED: "created",
    Applied.OUTCOME_CHANGED: "changed",
    Applied.OUTCOME_UNCHANGED: "left as it is",
}


class _DryRunDoneError(Exception):
    """Ends the transaction of a dry run, so that nothing of it stays."""


class DesiredState(AdminState):
    """Calls that change what the fleet should run. Each is one transaction, then a wake-up of the loop."""

    @guarded
    async def Apply(self, request: ApplyRequest, context: Context) -> ApplyResponse:  # noqa: N802 - the contract's name
        """Take a manifest whole, or refuse it whole with every problem."""
        self.leadership.require()
        parsed = await parsed_manifest(request.manifest, request.source_name)
        await check_fleet(current_caller(), parsed)
        digest = hashlib.sha256(request.SerializeToString(deterministic=True)).hexdigest()
        response = ApplyResponse()
        try:
            async with self.database.transaction() as conn:
                if request.idempotency_key:
                    remembered = await idempotency.remembered(conn, request.idempotency_key, digest)
                    if remembered is not None:
                        return ApplyResponse.FromString(remembered)
                response.applied.extend(await self.put_in_force(conn, parsed, request, actor_of(context)))
                _end_dry_run(request)
                if request.idempotency_key:
                    await idempotency.remember(
                        conn, request.idempotency_key, digest, response.SerializeToString(), datetime.now(UTC)
                    )
        except _DryRunDoneError:
            return response
        self.desired_changed()
        return response

    async def put_in_force(self, conn: Connection, parsed: Parsed, request: ApplyRequest, actor: str) -> list[Applied]:
        """Store what ``parsed`` says, inside the caller's transaction, as ``request`` wants it."""
        now = datetime.now(UTC)
        caller, numbered = current_caller(), sorted(parsed.numbered, key=lambda one: (one[1].name, one[0]))
        await note_objects(conn, parsed.objects)
        await admit(conn, caller, {recipe.name for recipe in parsed.all_recipes}, parsed.deployments)
        fleet = await FleetWriter(conn, actor, now, create_only=request.create_only).put(parsed)
        applied = [await recipes.put_revision(conn, recipe, revision, actor, now) for revision, recipe in numbered]
        applied += [
            await recipes.apply_recipe(
                conn,
                recipe,
                actor,
                now,
                expected_revision=request.expected_versions.get(f"Recipe/{recipe.name}", 0),
                create_only=request.create_only,
            )
            for recipe in parsed.recipes
        ]
        given = zip([*(recipe for _, recipe in numbered), *parsed.recipes], applied, strict=True)
        changed = [recipe for recipe, item in given if item.outcome != Applied.OUTCOME_UNCHANGED]
        await admit_changes(conn, caller, changed)
        applied += [
            await deployments.apply_deployment(
                conn,
                spec,
                actor,
                now,
                traceparent=current_traceparent(),
                expected_version=request.expected_versions.get(f"Deployment/{spec.name}", 0),
                create_only=request.create_only,
            )
            for spec in parsed.deployments
        ]
        await require_deployable(conn, caller, parsed.deployments)
        for item in applied:
            if item.kind == "Deployment" and item.name in parsed.stopped:
                await _keep_stopped(conn, item, request, actor, now)
        applied = [*fleet, *applied]
        told = [applied_event(item, actor, now) for item in applied if item.outcome != Applied.OUTCOME_UNCHANGED]
        await events.append(conn, told)
        return applied

    @guarded
    async def StopDeployment(  # noqa: N802 - the contract's name
        self, request: StopDeploymentRequest, context: Context
    ) -> StopDeploymentResponse:
        """Stop every replica, and start none until told so."""
        self.leadership.require()
        actor, now = actor_of(context), datetime.now(UTC)
        async with self.database.transaction() as conn:
            deployment = await deployments.set_stopped(
                conn, request.name, stopped=True, actor=actor, now=now, expected_version=request.expected_version
            )
            await events.append(conn, [_operator_event("deployment.stopped", request.name, "is to stop", actor, now)])
        self.desired_changed()
        return StopDeploymentResponse(deployment=deployment)

    @guarded
    async def StartDeployment(  # noqa: N802 - the contract's name
        self, request: StartDeploymentRequest, context: Context
    ) -> StartDeploymentResponse:
        """Start a stopped deployment again, and give replicas that gave up another try."""
        self.leadership.require()
        actor, now = actor_of(context), datetime.now(UTC)
        async with self.database.transaction() as conn:
            deployment = await deployments.set_stopped(
                conn, request.name, stopped=False, actor=actor, now=now, expected_version=request.expected_version
            )
            await events.append(conn, [_operator_event("deployment.started", request.name, "is to start", actor, now)])
        self.desired_changed()
        return StartDeploymentResponse(deployment=deployment)

    @guarded
    async def ScaleDeployment(  # noqa: N802 - the contract's name
        self, request: ScaleDeploymentRequest, context: Context
    ) -> ScaleDeploymentResponse:
        """Set how many replicas there should be."""
        self.leadership.require()
        actor, now = actor_of(context), datetime.now(UTC)
        async with self.database.transaction() as conn:
            deployment = await deployments.scale(
                conn, request.name, request.replicas, actor, now, request.expected_version
            )
            told = f"is to have {request.replicas} replica{'s' if request.replicas != 1 else ''}"
            await events.append(conn, [_operator_event("deployment.scaled", request.name, told, actor, now)])
        self.desired_changed()
        return ScaleDeploymentResponse(deployment=deployment)

    @guarded
    async def DeleteDeployment(  # noqa: N802 - the contract's name
        self, request: DeleteDeploymentRequest, context: Context
    ) -> DeleteDeploymentResponse:
        """Stop a deployment and forget it once its replicas are gone."""
        self.leadership.require()
        actor, now = actor_of(context), datetime.now(UTC)
        async with self.database.transaction() as conn:
            await deployments.delete_deployment(conn, request.name, actor, now, request.expected_version)
            await events.append(
                conn, [_operator_event("deployment.deleted", request.name, "is to be deleted", actor, now)]
            )
        self.desired_changed()
        return DeleteDeploymentResponse()

    @guarded
    async def DeleteRecipe(  # noqa: N802 - the contract's name
        self, request: DeleteRecipeRequest, context: Context
    ) -> DeleteRecipeResponse:
        """Forget a recipe that no deployment uses, with all its revisions."""
        self.leadership.require()
        async with self.database.transaction() as conn:
            await admit(conn, current_caller(), [request.name], [])
            await recipes.delete_recipe(conn, request.name)
            message = f"recipe {request.name} was deleted"
            await events.append(conn, [_event("recipe.deleted", message, actor_of(context), datetime.now(UTC))])
        return DeleteRecipeResponse()


async def _keep_stopped(conn: Connection, item: Applied, request: ApplyRequest, actor: str, now: datetime) -> None:
    """Stop a deployment that the manifest says is stopped, before anything of it has started."""
    if request.create_only and item.outcome != Applied.OUTCOME_CREATED:
        return
    version = (await deployments.set_stopped(conn, item.name, stopped=True, actor=actor, now=now)).version
    if version != item.version:
        item.version = version
        item.changes.append("stopped")
        if item.outcome == Applied.OUTCOME_UNCHANGED:
            item.outcome = Applied.OUTCOME_CHANGED


async def parsed_manifest(manifest: str, source_name: str) -> Parsed:
    """What the manifest says. Raises InvalidManifestError with every problem."""
    # A manifest may be a megabyte: half a second of work that the sessions of hosts need not wait for.
    parsed = await asyncio.to_thread(parse, manifest)
    if parsed.problems:
        count = len(parsed.problems)
        raise InvalidManifestError(
            f"{source_name or 'the manifest'} has {count} problem{'s' if count != 1 else ''}", parsed.problems
        )
    return parsed


def _end_dry_run(request: ApplyRequest) -> None:
    """Undo what a dry run did."""
    if request.dry_run:
        raise _DryRunDoneError


def _event(kind: str, message: str, actor: str, now: datetime, deployment: str = "") -> Event:
    event = Event(
        kind=kind, severity=Event.SEVERITY_INFO, deployment=deployment, message=f"{message} ({actor})", actor=actor
    )
    event.at.FromDatetime(now)
    return event


def _operator_event(kind: str, name: str, what: str, actor: str, now: datetime) -> Event:
    return _event(kind, f"{name} {what}", actor, now, deployment=name)


def applied_event(applied: Applied, actor: str, now: datetime) -> Event:
    """What an operator's change of a recipe or deployment is told as."""
    kind = applied.kind.lower()
    revision = f" r{applied.revision}" if applied.revision else ""
    changes = f": {'; '.join(applied.changes)}" if applied.changes else ""
    message = f"{kind} {applied.name}{revision} {OUTCOMES[applied.outcome]}{changes}"
    return _event(f"{kind}.applied", message, actor, now, applied.name if kind == "deployment" else "")
