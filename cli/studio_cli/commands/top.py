"""``studio top``: hosts, GPUs, replicas and models as they are now."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated

import typer
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from rich.console import Console
from studio.v1.telemetry_service_pb2 import WatchTelemetryRequest, WatchTelemetryResponse
from studio_runtime.errors import InvalidError, UnavailableError

from studio_cli.command import OutputOption, command
from studio_cli.coordinator import Coordinator
from studio_cli.output import Format, write_lines
from studio_cli.top.fleet import Fleet
from studio_cli.top.keys import View
from studio_cli.top.pages import Order, Page
from studio_cli.top.screen import RETRY_SECONDS, Screen, frame
from studio_cli.views.plain import plain
from studio_cli.wording import parse_duration

# What the coordinator accepts.
SHORTEST, LONGEST = 0.2, 60.0
# The first picture is whole once nothing more of it comes for so long.
PAUSE_SECONDS = 0.3

OnceOption = Annotated[bool, typer.Option("--once", help="One picture, and no screen.")]
PageOption = Annotated[Page, typer.Option("--page", help="What to show first.")]
SortOption = Annotated[Order, typer.Option("--sort", help="What comes first.")]
IntervalOption = Annotated[str, typer.Option("--interval", metavar="TIME", help="How often it is renewed: 500ms, 2s.")]
HostOption = Annotated[
    list[str] | None, typer.Option("--host", metavar="NAME", help="Only this host; may be repeated.")
]


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    command(
        app,
        top,
        "studio top",
        "studio top --page gpus --sort busy",
        "studio top --once --page models",
        "studio top -o json | jq -c '.hosts[]? | {name, figures}'",
    )


async def top(
    coordinator: Coordinator,
    page: PageOption = Page.HOSTS,
    sort: SortOption = Order.NAME,
    host: HostOption = None,
    interval: IntervalOption = "1s",
    once: OnceOption = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Watch hosts, GPUs, replicas and models live.

    Keys: 1 to 4 or Tab choose the page, s the order, arrows scroll, q ends it. Where the output is no terminal, one picture is
    written. With -o json every change is a line.
    """
    request = WatchTelemetryRequest(interval=_interval(interval), hosts=host or [])
    view = View(page, sort)
    if output.is_data and not once:
        async for change in _changes(coordinator, request):
            sys.stdout.write(json.dumps(plain(change), ensure_ascii=False) + "\n")
            sys.stdout.flush()
    elif once or output.is_data or not sys.stdout.isatty():
        await _one_picture(coordinator, request, view, output)
    else:
        screen = Screen(Console(), view)
        await screen.show(_through_absences(coordinator, request, screen))


async def _one_picture(coordinator: Coordinator, request: WatchTelemetryRequest, view: View, output: Format) -> None:
    fleet = await first_picture(_changes(coordinator, request))
    if output.is_data:
        items: list[Message] = [*fleet.hosts.values(), *fleet.replicas.values(), *fleet.deployments.values()]
        sys.stdout.write(json.dumps([plain(item) for item in items], ensure_ascii=False, indent=2) + "\n")
        return
    console = Console()
    width = console.width if console.is_terminal else sys.maxsize
    write_lines(frame(fleet, view, datetime.now(UTC), width, 0, ""))


async def first_picture(changes: AsyncIterator[WatchTelemetryResponse]) -> Fleet:
    """The whole picture, which comes in pieces at once; it is whole when the next change is a while away."""
    fleet = Fleet()
    fleet.take(await anext(changes))
    following = asyncio.ensure_future(anext(changes))
    while (await asyncio.wait((following,), timeout=PAUSE_SECONDS))[0]:
        fleet.take(following.result())
        following = asyncio.ensure_future(anext(changes))
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    return fleet


def _changes(coordinator: Coordinator, request: WatchTelemetryRequest) -> AsyncIterator[WatchTelemetryResponse]:
    return coordinator.stream(coordinator.telemetry.WatchTelemetry, request, "watch the fleet")


async def _through_absences(
    coordinator: Coordinator, request: WatchTelemetryRequest, screen: Screen
) -> AsyncIterator[WatchTelemetryResponse]:
    """The changes, asked for anew as often as the coordinator goes away."""
    while True:
        try:
            async for change in _changes(coordinator, request):
                yield change
        except UnavailableError as error:
            screen.lost(error)
            await asyncio.sleep(RETRY_SECONDS)


def _interval(text: str) -> Duration:
    seconds = parse_duration(text)
    if not SHORTEST <= seconds <= LONGEST:
        raise InvalidError(f"--interval {text} is not between {SHORTEST:g}s and {LONGEST:.0f}s", "Leave it out for 1s.")
    duration = Duration()
    duration.FromMilliseconds(round(seconds * 1000))
    return duration
