"""``studio usage``."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from studio.v1.admin_service_pb2 import ListUsageRequest
from studio_runtime.errors import InvalidError

from studio_cli import wording
from studio_cli.command import OutputOption, WatchOption, command
from studio_cli.coordinator import Coordinator
from studio_cli.output import Answer, Format, show_list, write_csv
from studio_cli.views.usage import GROUPS, usage_table


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    command(
        app,
        usage,
        "studio usage",
        "studio usage --by key,day --since 7d",
        "studio usage --by model -o json",
        "studio usage --by tenant,user,model --since 31d --csv > usage.csv",
    )


async def usage(
    coordinator: Coordinator,
    by: Annotated[str, typer.Option(help="How it is added up: any of tenant, user, model, key, day.")] = "model",
    since: Annotated[str, typer.Option(help="How far back: 90m, 24h, 7d.")] = "24h",
    until: Annotated[str, typer.Option(help="Up to how long ago: 24h. Default: now.")] = "",
    csv: Annotated[bool, typer.Option("--csv", help="Comma-separated, with every figure, for a spreadsheet.")] = False,
    output: OutputOption = Format.TABLE,
    watch: WatchOption = False,
) -> None:
    """Show requests, tokens and cost.

    Also failures, and the time to the first token of half and of 95 % of the requests; with -o wide all times.
    """
    groups = [part.strip() for part in by.split(",") if part.strip()]
    if unknown := [group for group in groups if group not in GROUPS]:
        raise InvalidError(f"usage cannot be added up by {', '.join(unknown)}", f"It can by: {', '.join(GROUPS)}.")
    back = timedelta(seconds=wording.parse_duration(since))

    async def fetch() -> Answer:
        request = ListUsageRequest(group_by=groups)
        request.since.FromDatetime(datetime.now(UTC) - back)
        if until:
            request.until.FromDatetime(datetime.now(UTC) - timedelta(seconds=wording.parse_duration(until)))
        answer = await coordinator.call(coordinator.admin.ListUsage, request, "ask for the usage")
        return Answer(list(answer.totals), usage_table(answer.totals, groups or ["model"]))

    if csv:
        write_csv(await fetch())
    else:
        await show_list(fetch, output, watch=watch)
