"""``studio deployments``, and the verbs that change one."""

from datetime import UTC, datetime
from typing import Annotated

import typer
from studio.v1.admin_service_pb2 import (
    ListDeploymentsRequest,
    ListEventsRequest,
    ScaleDeploymentRequest,
    StartDeploymentRequest,
    StopDeploymentRequest,
)
from studio.v1.deployment_pb2 import Deployment
from studio.v1.replica_pb2 import Replica

from studio_cli import wording
from studio_cli.command import IfVersionOption, OutputOption, TimeoutOption, WaitOption, WatchOption, command, noun
from studio_cli.completion import completed_by, deployment_names
from studio_cli.coordinator import Coordinator
from studio_cli.output import Answer, Format, show_list, write_item
from studio_cli.report import Report, on_terminal
from studio_cli.views.deployments import deployment_table
from studio_cli.views.story import deployment_story
from studio_cli.waiting import look, until_serving, until_stopped

STORY_EVENTS = 8
DEFAULT_TIMEOUT = "1h"

NameArgument = Annotated[str, typer.Argument(metavar="NAME", autocompletion=completed_by(deployment_names))]


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    deployments = noun(app, "deployments", "What is served under which public model name.")
    command(deployments, list_deployments, "studio deployments", "studio deployments -o json", name="list")
    command(deployments, show_deployment, "studio deployments show chat", name="show")
    command(app, stop, "studio stop chat", "studio stop chat --no-wait")
    command(app, start, "studio start chat")
    command(app, scale, "studio scale chat 3")


async def list_deployments(
    coordinator: Coordinator, output: OutputOption = Format.TABLE, watch: WatchOption = False
) -> None:
    """List the deployments."""
    admin = coordinator.admin

    async def fetch() -> Answer:
        answer = await coordinator.call(admin.ListDeployments, ListDeploymentsRequest(), "list the deployments")
        return Answer(list(answer.deployments), deployment_table(answer.deployments, datetime.now(UTC)))

    await show_list(fetch, output, watch=watch)


async def show_deployment(coordinator: Coordinator, name: NameArgument, output: OutputOption = Format.TABLE) -> None:
    """Tell about one deployment: its replicas, why they are as they are, what happened last."""
    deployment, replicas = await look(coordinator, name)
    await tell_deployment(coordinator, deployment, replicas, output)


async def tell_deployment(
    coordinator: Coordinator, deployment: Deployment, replicas: list[Replica], output: Format
) -> None:
    """Write about ``deployment``."""
    request = ListEventsRequest(deployment=deployment.name, limit=STORY_EVENTS)
    events = await coordinator.call(coordinator.admin.ListEvents, request, "list the events")
    write_item(
        deployment, lambda: list(deployment_story(deployment, replicas, events.events, datetime.now(UTC))), output
    )


async def stop(
    coordinator: Coordinator,
    name: NameArgument,
    if_version: IfVersionOption = 0,
    wait: Annotated[bool, typer.Option(help="Wait until no replica is left.")] = True,
    timeout: TimeoutOption = DEFAULT_TIMEOUT,
) -> None:
    """Stop serving a deployment.

    Requests in flight finish, then its engines end. The deployment stays known: `studio start` serves it again.
    """
    seconds = wording.parse_duration(timeout)
    request = StopDeploymentRequest(name=name, expected_version=if_version)
    await coordinator.call(coordinator.admin.StopDeployment, request, f"stop {name}")
    report = Report.on_standard_output()
    if not wait:
        report.line(f"{name} is being stopped")
        return
    with report.step(name) as step:
        await until_stopped(coordinator, name, lambda lines: step.update("; ".join(lines)), seconds)
        step.done("stopped: no replica is left")


async def start(
    coordinator: Coordinator,
    name: NameArgument,
    if_version: IfVersionOption = 0,
    wait: WaitOption = None,
    timeout: TimeoutOption = DEFAULT_TIMEOUT,
) -> None:
    """Serve a stopped deployment again."""
    seconds = wording.parse_duration(timeout)
    request = StartDeploymentRequest(name=name, expected_version=if_version)
    await coordinator.call(coordinator.admin.StartDeployment, request, f"start {name}")
    await follow(coordinator, name, f"{name} is being started", wait=wait, seconds=seconds)


async def scale(
    coordinator: Coordinator,
    name: NameArgument,
    replicas: Annotated[int, typer.Argument(metavar="N", min=0, help="How many replicas.")],
    if_version: IfVersionOption = 0,
    wait: WaitOption = None,
    timeout: TimeoutOption = DEFAULT_TIMEOUT,
) -> None:
    """Have a deployment served by N replicas."""
    seconds = wording.parse_duration(timeout)
    request = ScaleDeploymentRequest(name=name, replicas=replicas, expected_version=if_version)
    await coordinator.call(coordinator.admin.ScaleDeployment, request, f"scale {name}")
    wish = f"{name} is to have {wording.count_of(replicas, 'replica')}"
    await follow(coordinator, name, wish, wait=wait, seconds=seconds)


async def follow(coordinator: Coordinator, name: str, otherwise: str, *, wait: bool | None, seconds: float) -> None:
    """Wait until ``name`` serves where that is wanted, else say ``otherwise``."""
    report = Report.on_standard_output()
    if on_terminal() if wait is None else wait:
        await until_serving(coordinator, name, report, seconds)
    else:
        report.line(otherwise)
