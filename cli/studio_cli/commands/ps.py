"""``studio ps``: what runs where, since when, how busy."""

import asyncio
from datetime import UTC, datetime

import typer
from studio.v1.admin_service_pb2 import ListDeploymentsRequest, ListHostsRequest, ListReplicasRequest

from studio_cli.command import OutputOption, WatchOption, command
from studio_cli.coordinator import Coordinator
from studio_cli.output import Answer, Format, show_list
from studio_cli.views.replicas import replica_table


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    command(app, ps, "studio ps", "studio ps -w", "studio ps -o json | jq -r '.[] | select(.state==\"READY\") | .id'")


async def ps(coordinator: Coordinator, output: OutputOption = Format.TABLE, watch: WatchOption = False) -> None:
    """Show what runs where, and how busy it is.

    Also why what should run does not.
    """
    admin = coordinator.admin

    async def fetch() -> Answer:
        replicas, deployments, hosts = await asyncio.gather(
            coordinator.call(admin.ListReplicas, ListReplicasRequest(), "list the replicas"),
            coordinator.call(admin.ListDeployments, ListDeploymentsRequest(), "list the deployments"),
            coordinator.call(admin.ListHosts, ListHostsRequest(), "list the hosts"),
        )
        table = replica_table(replicas.replicas, deployments.deployments, hosts.hosts, datetime.now(UTC))
        return Answer(list(replicas.replicas), table)

    await show_list(fetch, output, watch=watch)
