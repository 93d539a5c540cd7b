"""AdminService, what would happen: plan a manifest before it is applied, and moves that would heal the fleet."""

import asyncio
from collections.abc import Sequence
from typing import Any

import grpc
from studio.v1.admin_service_pb2 import (
    ApplyRequest,
    MemoryEstimate,
    MemoryPart,
    PlanRequest,
    PlanResponse,
    RebalanceRequest,
    RebalanceResponse,
)
from studio.v1.agent_service_pb2 import Command, LaunchPreview, PreviewLaunch
from studio.v1.deployment_pb2 import DeploymentSpec
from studio.v1.event_pb2 import Event
from studio.v1.recipe_pb2 import Recipe
from studio_runtime.errors import UnavailableError

from studio_coordinator.knowledge.questions import ask
from studio_coordinator.manifest import Parsed
from studio_coordinator.plan.memory.estimate import Estimate
from studio_coordinator.plan.memory.parts import Source
from studio_coordinator.plan.moves import Rebalanced, rebalanced
from studio_coordinator.plan.preview import Planned, Preview, preview
from studio_coordinator.plan.sizing import draft_source, needs_facts
from studio_coordinator.rpc.desired import DesiredState, parsed_manifest
from studio_coordinator.rpc.guard import actor_of, guarded
from studio_coordinator.store import deployments, events, lease, replicas
from studio_coordinator.store.database import Connection

Context = grpc.aio.ServicerContext[Any, Any]

PREVIEW_SECONDS = 20.0
# Commands are asked of hosts for so many replicas; the others are like them.
MOST_PREVIEWS = 16
# In the words of the contract.
SOURCES = {
    Source.GIVEN: "formula",
    Source.FORMULA: "formula",
    Source.FITTED: "formula",
    Source.MEASURED: "measured",
    Source.BOUND: "bound",
}


class Planning(DesiredState):
    """Calls that say what would happen; only Rebalance without ``dry_run`` changes anything."""

    @guarded
    async def Plan(self, request: PlanRequest, context: Context) -> PlanResponse:  # noqa: N802 - the contract's name
        """Where each replica of a manifest would go, with which command, what it needs, and why not elsewhere."""
        self.leadership.require()
        parsed = await parsed_manifest(request.manifest, request.source_name)
        for recipe in _recipes(parsed):
            if needs_facts(recipe):
                await self.snapshots.library.settled(recipe.model.source, recipe.model.revision)
                if drafts := draft_source(recipe):
                    await self.snapshots.library.settled(drafts, "")
        async with self.database.transaction() as conn:
            names = await self._as_if_applied(conn, parsed, actor_of(context))
            snapshot = await self.snapshots.load(conn)
            # It was only to see.
            await conn.rollback()
        found = await asyncio.to_thread(preview, snapshot, names)
        commands = await asyncio.gather(*[self._command(planned) for planned in found.replicas[:MOST_PREVIEWS]])
        return _told(found, commands)

    async def _as_if_applied(self, conn: Connection, parsed: Parsed, actor: str) -> set[str]:
        """Apply the manifest inside the caller's transaction; the names of the deployments that it is about."""
        await self.put_in_force(conn, parsed, ApplyRequest(), actor)
        changed = {recipe.name for recipe in _recipes(parsed)}
        listed = await deployments.list_deployments(conn)
        names = {spec.name for spec in parsed.deployments}
        names |= {item.name for item in listed if item.spec.recipe in changed and not item.spec.recipe_revision}
        used = {item.spec.recipe for item in listed}
        taken = {name for item in listed for name in (item.name, *item.spec.aliases)}
        for recipe in sorted(changed - used):
            # Nobody serves it yet: it is planned as if somebody did, with one replica.
            name = recipe if recipe not in taken else f"{recipe}-planned"
            spec = DeploymentSpec(name=name, recipe=recipe)
            await self.put_in_force(conn, Parsed(deployments=[spec]), ApplyRequest(), actor)
            names.add(name)
        return names

    async def _command(self, planned: Planned) -> LaunchPreview | str:
        """With which command its host would start it, or why that is not known."""
        if planned.told is None:
            return ""
        question = Command(preview_launch=PreviewLaunch(replica=planned.told))
        try:
            session = self.sessions.get(planned.host_id)
            answer = await ask(session, question, self.leadership.term, PREVIEW_SECONDS)
        except UnavailableError as error:
            return error.message
        return answer.preview if answer.ok else answer.message

    @guarded
    async def Rebalance(  # noqa: N802 - the contract's name
        self, request: RebalanceRequest, context: Context
    ) -> RebalanceResponse:
        """Moves that free whole hosts or heal spread. Each replacement serves before the old replica drains."""
        self.leadership.require()
        async with self.database.transaction() as conn:
            snapshot = await self.snapshots.load(conn)
        found = await asyncio.to_thread(rebalanced, snapshot, self.snapshots.activity.start_seconds())
        if found.moves and not request.dry_run:
            async with self.database.transaction() as conn:
                await lease.check(conn, snapshot.term)
                await self._carry_out(conn, found, actor_of(context))
            self.desired_changed()
        reason = "" if found.moves else "no move would free a host or heal spread"
        return RebalanceResponse(moves=found.moves, reason=reason)

    async def _carry_out(self, conn: Connection, found: Rebalanced, actor: str) -> None:
        """Store the replacements and mark who moves. Raises UnavailableError when the fleet changed meanwhile."""
        for row in found.inserted:
            await replicas.insert_replica(conn, row)
        for row in found.updated:
            if not await replicas.update_replica(conn, row):
                raise UnavailableError(f"{row.id} changed while its move was worked out", "Ask again.")
        told = []
        for move in found.moves:
            message = f"{move.replica_id} moves from {move.from_host} to {move.to_host}: {move.reason} ({actor})"
            event = Event(kind="replica.moving", severity=Event.SEVERITY_INFO, message=message, actor=actor)
            event.host, event.replica = move.from_host, move.replica_id
            event.deployment = move.replica_id.rpartition("-")[0]
            event.at.GetCurrentTime()
            told.append(event)
        await events.append(conn, told)


def _recipes(parsed: Parsed) -> list[Recipe]:
    """All of a manifest, also those that come with the revision that they had elsewhere."""
    return [*parsed.recipes, *(recipe for _, recipe in parsed.numbered)]


def _told(found: Preview, commands: Sequence[LaunchPreview | str]) -> PlanResponse:
    response = PlanResponse(preempted=found.preempted)
    for position, planned in enumerate(found.replicas):
        told = response.replicas.add(
            deployment=planned.deployment,
            replica_id=planned.replica_id,
            host_name=planned.host_name,
            gpu_uuids=planned.gpu_uuids,
            reason=planned.reason,
            refusals=planned.refusals,
        )
        command = commands[position] if position < len(commands) else ""
        if isinstance(command, LaunchPreview):
            told.argv.extend(command.argv)
        elif command:
            told.reason += f"; its command is not known: {command}"
        if planned.on is not None:
            told.estimate.CopyFrom(estimate_message(planned.on.estimate))
    return response


def estimate_message(found: Estimate) -> MemoryEstimate:
    """The estimate in the words of the contract: buffers of the engine count as context."""
    message = MemoryEstimate(
        total_bytes=found.total_bytes,
        error_bytes=found.kv.error_bytes,
        kv_bytes_per_token=round(found.kv_token_bytes),
        kv_tokens=found.kv_tokens,
        max_concurrency=found.max_concurrency,
        max_model_len_that_fits=found.max_model_len_that_fits,
        unknown=[*found.unknown, *([found.why_not] if found.why_not else [])],
    )
    for part in found.parts:
        message.parts.append(
            MemoryPart(name=part.name, bytes=part.bytes, source=SOURCES[part.source], error_bytes=part.error_bytes)
        )
    return message
