"""AdminService, what operators see: status, lists, events, logs."""

from collections import defaultdict
from collections.abc import AsyncIterator
from typing import Any

import grpc
import structlog
from studio.v1.admin_service_pb2 import (
    GetRecipeRequest,
    GetRecipeResponse,
    GetStatusRequest,
    GetStatusResponse,
    ListDeploymentsRequest,
    ListDeploymentsResponse,
    ListEventsRequest,
    ListEventsResponse,
    ListHostsRequest,
    ListHostsResponse,
    ListRecipesRequest,
    ListRecipesResponse,
    ListReplicasRequest,
    ListReplicasResponse,
    StreamLogsRequest,
    StreamLogsResponse,
    WatchEventsRequest,
    WatchEventsResponse,
)
from studio.v1.event_pb2 import Event
from studio.v1.replica_pb2 import Replica
from studio_runtime.errors import NotFoundError, StudioError, UnavailableError

from studio_coordinator.knowledge.figures import add_figures, add_replica_figures
from studio_coordinator.plan.members import parts
from studio_coordinator.plan.status import with_state
from studio_coordinator.rpc.guard import guarded, refuse
from studio_coordinator.rpc.state import AdminState
from studio_coordinator.store import deployments, events, hosts, recipes, replicas
from studio_coordinator.version import VERSION
from studio_coordinator.wakeup import wait_for

log = structlog.get_logger()

Context = grpc.aio.ServicerContext[Any, Any]

DEFAULT_EVENTS = 100
MOST_EVENTS = 1000
EVENT_POLL_SECONDS = 2.0
DEFAULT_TAIL_BYTES = 16 * 1024
MOST_TAIL_BYTES = 8 * 1024 * 1024


class Views(AdminState):
    """Calls that change nothing."""

    @guarded
    async def GetStatus(self, _request: GetStatusRequest, _context: Context) -> GetStatusResponse:  # noqa: N802
        """Who leads, and which gateways are connected."""
        table = self.gateways.routes
        return GetStatusResponse(
            version=VERSION,
            schema_revision=await self.database.schema_revision(),
            leader=self.leadership.is_leader,
            term=self.leadership.term,
            leader_address=self.leadership.leader_address,
            gateways=self.gateways.statuses(),
            route_version=table.version if table is not None else 0,
        )

    @guarded
    async def ListRecipes(self, _request: ListRecipesRequest, _context: Context) -> ListRecipesResponse:  # noqa: N802
        """The newest revision of every recipe."""
        async with self.database.transaction() as conn:
            return ListRecipesResponse(recipes=await recipes.list_recipes(conn))

    @guarded
    async def GetRecipe(self, request: GetRecipeRequest, _context: Context) -> GetRecipeResponse:  # noqa: N802
        """One revision of a recipe."""
        async with self.database.transaction() as conn:
            return GetRecipeResponse(recipe=await recipes.get_recipe(conn, request.name, request.revision))

    @guarded
    async def ListDeployments(  # noqa: N802 - the contract's name
        self, request: ListDeploymentsRequest, _context: Context
    ) -> ListDeploymentsResponse:
        """Deployments with their state."""
        async with self.database.transaction() as conn:
            found = await deployments.list_deployments(conn, request.name)
            rows = await replicas.list_replicas(conn, request.name)
        if request.name and not found:
            raise NotFoundError(f"there is no deployment {request.name!r}", "See studio deployments list.")
        own: dict[str, list[Replica]] = defaultdict(list)
        for row in rows:
            own[row.deployment].append(row)
        return ListDeploymentsResponse(deployments=[with_state(item, own[item.name]) for item in found])

    @guarded
    async def ListReplicas(self, request: ListReplicasRequest, _context: Context) -> ListReplicasResponse:  # noqa: N802
        """Replicas with the newest figures of their engines."""
        async with self.database.transaction() as conn:
            if request.deployment:
                await deployments.get_deployment(conn, request.deployment)
            rows = await replicas.list_replicas(conn, request.deployment)
        add_replica_figures(rows, self.sessions)
        return ListReplicasResponse(replicas=rows)

    @guarded
    async def ListHosts(self, _request: ListHostsRequest, _context: Context) -> ListHostsResponse:  # noqa: N802
        """Hosts with the newest figures of themselves and their GPUs."""
        async with self.database.transaction() as conn:
            found = await hosts.list_hosts(conn)
        for host in found:
            add_figures(host, self.sessions)
        return ListHostsResponse(hosts=found)

    @guarded
    async def ListEvents(self, request: ListEventsRequest, _context: Context) -> ListEventsResponse:  # noqa: N802
        """The newest events, or those after a sequence."""
        limit = min(request.limit or DEFAULT_EVENTS, MOST_EVENTS)
        return ListEventsResponse(events=await self._events(request, limit, request.after_sequence))

    async def _events(
        self, request: ListEventsRequest | WatchEventsRequest, limit: int, after_sequence: int
    ) -> list[Event]:
        async with self.database.transaction() as conn:
            return await events.list_events(
                conn,
                limit=limit,
                after_sequence=after_sequence,
                deployment=request.deployment,
                host=request.host,
                replica=request.replica,
            )

    async def WatchEvents(  # noqa: N802 - the contract's name
        self, request: WatchEventsRequest, _context: Context
    ) -> AsyncIterator[WatchEventsResponse]:
        """Events as they happen, from a sequence on. While the database is away the stream waits."""
        sequence = request.after_sequence
        while True:
            ticket = self.events_stored.ticket()
            try:
                if sequence < 0:
                    async with self.database.transaction() as conn:
                        sequence = await events.newest_sequence(conn)
                # From 0 on the store begins with the newest ones.
                found = await self._events(request, MOST_EVENTS if sequence else DEFAULT_EVENTS, sequence)
            except UnavailableError as error:
                log.warning("events_not_read", reason=error.message)
                found = []
            for event in found:
                sequence = max(sequence, event.sequence)
                yield WatchEventsResponse(event=event)
            if not found:
                await wait_for(ticket, EVENT_POLL_SECONDS)

    async def StreamLogs(  # noqa: N802 - the contract's name
        self, request: StreamLogsRequest, context: Context
    ) -> AsyncIterator[StreamLogsResponse]:
        """A replica's log, pulled from its host."""
        try:
            name, _, rank = request.name.partition("/")
            row = await self._replica_named(name)
            session = self.sessions.get(_host_of_rank(row, rank))
            tail_bytes = min(request.tail_bytes or DEFAULT_TAIL_BYTES, MOST_TAIL_BYTES)
            async with session.pull_log(row.id, tail_bytes, follow=request.follow) as chunks:
                while True:
                    chunk = await chunks.get()
                    if chunk.error:
                        raise UnavailableError(f"the log of {row.id} cannot be read: {chunk.error}")
                    if chunk.data:
                        yield StreamLogsResponse(replica_id=row.id, data=chunk.data)
                    if chunk.end:
                        return
        except StudioError as error:
            await refuse(context, error)

    async def _replica_named(self, name: str) -> Replica:
        """The replica with this id, or the newest one with a host of the deployment with this name."""
        async with self.database.transaction() as conn:
            rows = await replicas.list_replicas(conn)
        found = [row for row in rows if row.id == name] or [
            row for row in rows if row.deployment == name and row.host_id
        ]
        if not found:
            raise NotFoundError(f"there is no replica or deployment {name!r} with a log", "See studio ps.")
        return max(found, key=lambda row: (row.state_since.ToNanoseconds(), row.id))


def _host_of_rank(row: Replica, rank: str) -> str:
    """The host of one part of a replica over several hosts; of rank 0 where none is named."""
    found = [part.host_id for part in parts(row) if str(part.rank) == (rank or "0")]
    if not found:
        raise NotFoundError(f"{row.id} has no rank {rank}", f"See studio describe {row.id}.")
    return found[0]
