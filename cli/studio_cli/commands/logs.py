"""``studio logs``."""

import sys
from typing import Annotated

import typer
from studio.v1.admin_service_pb2 import StreamLogsRequest

from studio_cli.command import command
from studio_cli.completion import completed_by, deployment_names, replica_names
from studio_cli.coordinator import Coordinator

DEFAULT_TAIL_KIB = 64


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    command(
        app,
        logs,
        "studio logs chat",
        "studio logs -f chat-2",
        "studio logs big-1/1",
        "studio logs chat --tail 1024 > chat.log",
    )


async def logs(
    coordinator: Coordinator,
    name: Annotated[str, typer.Argument(metavar="NAME", autocompletion=completed_by(deployment_names, replica_names))],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what is written from now on.")] = False,
    tail: Annotated[int, typer.Option(min=1, help="How many KiB from the end to begin with.")] = DEFAULT_TAIL_KIB,
) -> None:
    """Show the log of an engine.

    NAME is a replica, or a deployment: then it is its newest replica. NAME/1 is rank 1 of a replica over several hosts.
    """
    request = StreamLogsRequest(name=name, follow=follow, tail_bytes=tail * 1024)
    replica = ""
    async for chunk in coordinator.stream(coordinator.admin.StreamLogs, request, f"read the log of {name}"):
        if chunk.replica_id and chunk.replica_id != replica:
            if replica or chunk.replica_id != name:
                sys.stderr.write(f"==> {chunk.replica_id} <==\n")
            replica = chunk.replica_id
        # As the engine wrote it: bytes, not necessarily text.
        sys.stdout.buffer.write(chunk.data)
        sys.stdout.buffer.flush()
