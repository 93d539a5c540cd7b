"""AdminService: an operator's word that a restored database is the truth.

Hosts and gateways refuse what is older than what they have seen; they go on with what they have until somebody who can tell says
which is right. Then every number goes above all that was seen, and what this database says is handed out anew.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import grpc
from studio.v1.admin_service_pb2 import AcceptedHost, AcceptStateRequest, AcceptStateResponse
from studio.v1.assignment_pb2 import Assignment
from studio.v1.event_pb2 import Event
from studio.v1.route_pb2 import RouteTable

from studio_coordinator.rpc.guard import actor_of, guarded
from studio_coordinator.rpc.state import AdminState
from studio_coordinator.sessions import Session
from studio_coordinator.store import assignments, counters, events, lease, routes
from studio_coordinator.store.database import Connection

Context = grpc.aio.ServicerContext[Any, Any]


class _DryRunDoneError(Exception):
    """Rolls the transaction back."""


class AcceptState(AdminState):
    """What follows a restore."""

    @guarded
    async def AcceptState(self, request: AcceptStateRequest, context: Context) -> AcceptStateResponse:  # noqa: N802
        """Raise the term, generations and versions above all that connected hosts and gateways have seen."""
        self.leadership.require()
        response = AcceptStateResponse()
        try:
            async with self.database.transaction() as conn:
                await lease.check(conn, self.leadership.term)
                await self._raise_all(conn, response)
                await events.append(conn, [_event(response, actor_of(context))])
                _end_dry_run(request)
        except _DryRunDoneError:
            return response
        # A pass that is under way in the old term is refused by its check of the lease, and made again.
        self.leadership.adopt(response.term)
        self.desired_changed()
        return response

    async def _raise_all(self, conn: Connection, response: AcceptStateResponse) -> None:
        sessions = self.sessions.all()
        gateway_term, route_version, access_version = self.gateways.newest_seen()
        response.term = await lease.raise_epoch(conn, max([gateway_term, *(one.highest_term for one in sessions)]))
        stored = await assignments.list_assignments(conn)
        for session in sessions:
            known = stored.get(session.host_id, Assignment())
            document = above(known, session.applied_generation, response.term)
            await assignments.put_assignment(conn, session.host_id, document, response.term)
            response.hosts.append(accepted(session, known, document))
        table = RouteTable()
        table.CopyFrom(await routes.current_table(conn))
        table.term, table.version = response.term, max(table.version, route_version) + 1
        await routes.replace_table(conn, table)
        response.route_version = table.version
        behind = access_version - await counters.counter(conn, counters.ACCESS)
        if behind >= 0:
            await counters.raise_counter(conn, counters.ACCESS, behind + 1)


def _end_dry_run(request: AcceptStateRequest) -> None:
    if request.dry_run:
        raise _DryRunDoneError


def above(known: Assignment, applied_generation: int, term: int) -> Assignment:
    """What ``known`` says, under a number that the host takes for newer; the operator has confirmed what it stops."""
    document = Assignment()
    document.CopyFrom(known)
    document.generation = max(known.generation, applied_generation) + 1
    document.term, document.stops_confirmed = term, True
    return document


def accepted(session: Session, known: Assignment, document: Assignment) -> AcceptedHost:
    """What is told of one host."""
    names: Mapping[str, None] = dict.fromkeys(item.replica_id for item in known.replicas)
    return AcceptedHost(
        host=session.host_name,
        applied_generation=session.applied_generation,
        generation=document.generation,
        unknown_replicas=sorted(item.replica_id for item in session.replicas.replicas if item.replica_id not in names),
    )


def _event(response: AcceptStateResponse, actor: str) -> Event:
    event = Event(
        kind="state.accepted",
        severity=Event.SEVERITY_WARNING,
        message=f"this database was accepted as the truth: term {response.term}, {len(response.hosts)} hosts told anew",
        actor=actor,
    )
    event.at.FromDatetime(datetime.now(UTC))
    return event
