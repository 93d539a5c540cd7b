"""``studio describe``: a deployment, replica or host, whichever has the name."""

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Annotated

import typer
from studio.v1.admin_service_pb2 import (
    ListDeploymentsRequest,
    ListEventsRequest,
    ListHostsRequest,
    ListReplicasRequest,
)
from studio.v1.host_pb2 import Host
from studio.v1.replica_pb2 import Replica
from studio_runtime.errors import NotFoundError

from studio_cli.command import OutputOption, command
from studio_cli.commands.deployments import STORY_EVENTS, tell_deployment
from studio_cli.commands.hosts import tell_host
from studio_cli.completion import completed_by, deployment_names, host_names, replica_names
from studio_cli.coordinator import Coordinator
from studio_cli.output import Format, write_item
from studio_cli.views.story import replica_story


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    command(app, describe, "studio describe chat", "studio describe chat-2", "studio describe lab-1 -o yaml")


async def describe(
    coordinator: Coordinator,
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", autocompletion=completed_by(deployment_names, replica_names, host_names)),
    ],
    output: OutputOption = Format.TABLE,
) -> None:
    """Tell how something stands, and why.

    NAME is a deployment, a replica or a host.
    """
    admin = coordinator.admin
    deployments, replicas, hosts = await asyncio.gather(
        coordinator.call(admin.ListDeployments, ListDeploymentsRequest(), "list the deployments"),
        coordinator.call(admin.ListReplicas, ListReplicasRequest(), "list the replicas"),
        coordinator.call(admin.ListHosts, ListHostsRequest(), "list the hosts"),
    )
    for deployment in deployments.deployments:
        if deployment.name == name:
            own = [one for one in replicas.replicas if one.deployment == name]
            await tell_deployment(coordinator, deployment, own, output)
            return
    for replica in replicas.replicas:
        if replica.id == name:
            await tell_replica(coordinator, replica, hosts.hosts, output)
            return
    for named in hosts.hosts:
        if name in (named.name, named.id):
            await tell_host(coordinator, named, output)
            return
    known = [one.name for one in deployments.deployments] + [one.id for one in replicas.replicas]
    known += [one.name for one in hosts.hosts]
    close = get_close_matches(name, known)
    raise NotFoundError(
        f"there is no deployment, replica or host {name}",
        f"Did you mean {' or '.join(close)}?" if close else "`studio ps` and `studio hosts` show those there are.",
    )


async def tell_replica(coordinator: Coordinator, replica: Replica, hosts: Iterable[Host], output: Format) -> None:
    """Write about ``replica``."""
    request = ListEventsRequest(replica=replica.id, limit=STORY_EVENTS)
    events = await coordinator.call(coordinator.admin.ListEvents, request, "list the events")
    write_item(replica, lambda: list(replica_story(replica, hosts, events.events, datetime.now(UTC))), output)
