"""``studio events``."""

import asyncio
import json
import sys
from datetime import UTC, datetime
from typing import Annotated

import typer
from studio.v1.admin_service_pb2 import ListEventsRequest, WatchEventsRequest
from studio.v1.event_pb2 import Event
from studio_runtime.errors import UnavailableError

from studio_cli.command import OutputOption, WatchOption, command
from studio_cli.completion import completed_by, deployment_names, host_names, replica_names
from studio_cli.coordinator import Coordinator
from studio_cli.output import Format, write_data, write_lines
from studio_cli.views.events import event_line, in_order
from studio_cli.views.plain import plain

RETRY_SECONDS = 1.0


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    command(
        app,
        events,
        "studio events",
        "studio events --watch",
        "studio events --deployment chat -n 100",
        "studio events -w -o json",
    )


async def events(
    coordinator: Coordinator,
    watch: WatchOption = False,
    after: Annotated[int, typer.Option(min=0, help="Only events after this sequence number.")] = 0,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many, the newest.")] = 50,
    deployment: Annotated[str, typer.Option(autocompletion=completed_by(deployment_names))] = "",
    host: Annotated[str, typer.Option(autocompletion=completed_by(host_names))] = "",
    replica: Annotated[str, typer.Option(autocompletion=completed_by(replica_names))] = "",
    output: OutputOption = Format.TABLE,
) -> None:
    """Show what happened, with its reasons.

    With --watch also what happens from now on.
    """
    request = ListEventsRequest(limit=limit, after_sequence=after, deployment=deployment, host=host, replica=replica)
    answer = await coordinator.call(coordinator.admin.ListEvents, request, "list the events")
    known = in_order(list(answer.events))
    if output.is_data and not watch:
        write_data([plain(event) for event in known], output)
        return
    for event in known:
        write_event(event, output)
    if not watch:
        return
    last = max([after, *(event.sequence for event in known)])
    await follow(
        coordinator, WatchEventsRequest(after_sequence=last, deployment=deployment, host=host, replica=replica), output
    )


async def follow(coordinator: Coordinator, request: WatchEventsRequest, output: Format) -> None:
    """Write events as they happen; a stream that breaks is taken up where it was left."""
    absence = ""
    while True:
        try:
            async for response in coordinator.stream(coordinator.admin.WatchEvents, request, "watch the events"):
                absence = ""
                write_event(response.event, output)
                request.after_sequence = max(request.after_sequence, response.event.sequence)
        except UnavailableError as error:
            if error.message != absence:
                absence = error.message
                sys.stderr.write(f"{absence}; trying again\n")
        await asyncio.sleep(RETRY_SECONDS)


def write_event(event: Event, output: Format) -> None:
    """Write one event: a line, a line of JSON, or a document of YAML."""
    if output is Format.JSON:
        sys.stdout.write(json.dumps(plain(event), ensure_ascii=False) + "\n")
        sys.stdout.flush()
    elif output is Format.YAML:
        sys.stdout.write("---\n")
        write_data(plain(event), output)
    else:
        write_lines([event_line(event, datetime.now(UTC))])
