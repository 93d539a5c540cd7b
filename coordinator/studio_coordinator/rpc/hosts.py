"""AdminService: what operators do with hosts."""

from datetime import UTC, datetime
from typing import Any

import grpc
from studio.v1.admin_service_pb2 import (
    RemoveHostRequest,
    RemoveHostResponse,
    UpdateHostRequest,
    UpdateHostResponse,
)
from studio.v1.event_pb2 import Event
from studio.v1.host_pb2 import Host
from studio_runtime.errors import InvalidError, SafetyError

from studio_coordinator.plan.members import parts
from studio_coordinator.rpc.guard import actor_of, guarded
from studio_coordinator.rpc.state import AdminState
from studio_coordinator.store import events, hosts, identities, replicas

Context = grpc.aio.ServicerContext[Any, Any]

TOLD = {
    UpdateHostRequest.VERB_CORDON: ("host.cordoned", "takes nothing new"),
    UpdateHostRequest.VERB_UNCORDON: ("host.uncordoned", "takes replicas again"),
    UpdateHostRequest.VERB_DRAIN: ("host.draining", "takes nothing new, and what runs there is moved away"),
    UpdateHostRequest.VERB_LABEL: ("host.labelled", "has other labels"),
}
FORGOTTEN = "the host was forgotten"


class Hosts(AdminState):
    """Cordon, drain, label and forget."""

    @guarded
    async def UpdateHost(self, request: UpdateHostRequest, context: Context) -> UpdateHostResponse:  # noqa: N802
        """Change what the plan may do with a host."""
        self.leadership.require()
        if request.verb not in TOLD:
            raise InvalidError("this call names no verb that is known", "Upgrade the coordinator, or the CLI.")
        async with self.database.transaction() as conn:
            before = await hosts.find_host(conn, request.host)
            wanted = edited(before, request)
            if wanted == before:
                return UpdateHostResponse(host=before)
            host = await hosts.update_host(conn, wanted, request.expected_version)
            kind, what = TOLD[request.verb]
            await events.append(conn, [_event(kind, host.name, f"host {host.name} {what}", actor_of(context))])
        self.desired_changed()
        return UpdateHostResponse(host=host)

    @guarded
    async def RemoveHost(self, request: RemoveHostRequest, context: Context) -> RemoveHostResponse:  # noqa: N802
        """Forget a host that is gone, and refuse its certificate: it comes back with a new join token alone."""
        self.leadership.require()
        now = datetime.now(UTC)
        async with self.database.transaction() as conn:
            host = await hosts.find_host(conn, request.host)
            if host.state in (Host.STATE_CONNECTED, Host.STATE_SUSPECT):
                raise SafetyError(
                    f"host {host.name} is {Host.State.Name(host.state).removeprefix('STATE_').lower()}",
                    "Stop its agent first; a connected host would only come back.",
                )
            rows = await replicas.list_replicas(conn)
            left = [row.id for row in rows if any(part.host_id == host.id for part in parts(row))]
            if left:
                raise SafetyError(
                    f"host {host.name} still holds {', '.join(left)}",
                    f"Drain it first: studio drain {host.name}. Replicas of a lost host are replaced by themselves.",
                )
            await hosts.remove_host(conn, host.id)
            if (known := await identities.lock(conn, host.id)) is not None and not known.identity.locked_reason:
                await identities.refuse(conn, host.id, FORGOTTEN, now)
            await events.append(
                conn, [_event("host.removed", host.name, f"host {host.name} was removed", actor_of(context))]
            )
        self.desired_changed()
        return RemoveHostResponse()


def edited(before: Host, request: UpdateHostRequest) -> Host:
    """A copy of ``before`` with what the request asks for."""
    host = Host()
    host.CopyFrom(before)
    if request.verb == UpdateHostRequest.VERB_LABEL:
        for key, value in request.labels.items():
            host.labels[key] = value
        for key in request.removed_labels:
            host.labels.pop(key, None)
    else:
        host.cordoned = request.verb != UpdateHostRequest.VERB_UNCORDON
        host.draining = request.verb == UpdateHostRequest.VERB_DRAIN
    return host


def _event(kind: str, host: str, message: str, actor: str) -> Event:
    event = Event(kind=kind, severity=Event.SEVERITY_INFO, host=host, message=f"{message} ({actor})", actor=actor)
    event.at.FromDatetime(datetime.now(UTC))
    return event
