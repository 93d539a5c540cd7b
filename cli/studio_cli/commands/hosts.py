"""``studio hosts``."""

from datetime import UTC, datetime
from typing import Annotated

import typer
from studio.v1.admin_service_pb2 import ListEventsRequest, ListHostsRequest, ListReplicasRequest
from studio.v1.host_pb2 import Host
from studio.v1.identity_service_pb2 import Identity
from studio_runtime.errors import NotFoundError

from studio_cli.command import OutputOption, WatchOption, command, noun
from studio_cli.commands import gpus, identities
from studio_cli.completion import completed_by, host_names
from studio_cli.coordinator import Coordinator
from studio_cli.output import Answer, Format, show_list, write_item
from studio_cli.views.hosts import host_table
from studio_cli.views.replicas import is_on
from studio_cli.views.story import host_story

STORY_EVENTS = 8


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    hosts = noun(app, "hosts", "The machines with an agent.")
    command(hosts, list_hosts, "studio hosts", "studio hosts -o wide", "studio hosts -w", name="list")
    command(hosts, show_host, "studio hosts show lab-1", "studio hosts show lab-1 -o yaml", name="show")
    gpus.register(hosts)
    identities.register(hosts, "hosts", Identity.KIND_AGENT)


async def list_hosts(coordinator: Coordinator, output: OutputOption = Format.TABLE, watch: WatchOption = False) -> None:
    """List the hosts."""

    async def fetch() -> Answer:
        answer = await coordinator.call(coordinator.admin.ListHosts, ListHostsRequest(), "list the hosts")
        return Answer(list(answer.hosts), host_table(answer.hosts, datetime.now(UTC)))

    await show_list(fetch, output, watch=watch)


async def show_host(
    coordinator: Coordinator,
    name: Annotated[str, typer.Argument(metavar="NAME", autocompletion=completed_by(host_names))],
    output: OutputOption = Format.TABLE,
) -> None:
    """Tell about one host: its GPUs, what runs there, what happened last."""
    answer = await coordinator.call(coordinator.admin.ListHosts, ListHostsRequest(), f"look at host {name}")
    host = next((one for one in answer.hosts if name in (one.name, one.id)), None)
    if host is None:
        known = ", ".join(sorted(one.name for one in answer.hosts)) or "none"
        raise NotFoundError(f"there is no host {name}", f"Hosts: {known}.")
    await tell_host(coordinator, host, output)


async def tell_host(coordinator: Coordinator, host: Host, output: Format) -> None:
    """Write about ``host``."""
    admin = coordinator.admin
    replicas = await coordinator.call(admin.ListReplicas, ListReplicasRequest(), "list the replicas")
    request = ListEventsRequest(host=host.name, limit=STORY_EVENTS)
    events = await coordinator.call(admin.ListEvents, request, "list the events")
    here = [one for one in replicas.replicas if is_on(one, host)]
    write_item(host, lambda: list(host_story(host, here, events.events, datetime.now(UTC))), output)
