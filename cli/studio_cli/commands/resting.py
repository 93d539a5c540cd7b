"""``studio wake`` and ``studio sleep``: what requests and time do to a deployment, done by hand."""

from typing import Annotated

import typer
from studio.v1.admin_service_pb2 import SleepDeploymentRequest, WakeDeploymentRequest
from studio.v1.deployment_pb2 import Deployment

from studio_cli import wording
from studio_cli.command import OutputOption, TimeoutOption, WaitOption, command
from studio_cli.commands.deployments import DEFAULT_TIMEOUT, NameArgument, follow
from studio_cli.coordinator import Coordinator
from studio_cli.output import Format, write_item
from studio_cli.report import Report
from studio_cli.waiting import until_at_rest

DEEPEST = 2


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    command(app, wake, "studio wake chat", "studio wake chat --no-wait -o json")
    command(app, sleep, "studio sleep chat", "studio sleep chat --level 2", "studio sleep chat --stop")


async def wake(
    coordinator: Coordinator,
    name: NameArgument,
    output: OutputOption = Format.TABLE,
    wait: WaitOption = None,
    timeout: TimeoutOption = DEFAULT_TIMEOUT,
) -> None:
    """Bring up a deployment that sleeps or is stopped for idleness, as a request would."""
    seconds = wording.parse_duration(timeout)
    request = WakeDeploymentRequest(name=name)
    answer = await coordinator.call(coordinator.admin.WakeDeployment, request, f"wake {name}")
    if output is not Format.TABLE:
        write_item(answer.deployment, list, output)
        return
    await follow(coordinator, name, f"{name} is being woken", wait=wait, seconds=seconds)


async def sleep(
    coordinator: Coordinator,
    name: NameArgument,
    level: Annotated[
        int, typer.Option(min=1, max=DEEPEST, help="1: weights stay in the host's memory; 2: they are read anew.")
    ] = 1,
    stop: Annotated[bool, typer.Option("--stop", help="End its engines instead; a request starts them again.")] = False,
    output: OutputOption = Format.TABLE,
    wait: Annotated[bool, typer.Option(help="Wait until its GPUs are free.")] = True,
    timeout: TimeoutOption = DEFAULT_TIMEOUT,
) -> None:
    """Send a deployment to sleep now, so that its GPUs are free.

    Requests in flight finish first; the next request wakes it. `studio stop` keeps it down also when requests come.
    """
    seconds = wording.parse_duration(timeout)
    rest = Deployment.REST_DEEP_SLEEP if level == DEEPEST else Deployment.REST_SLEEP
    request = SleepDeploymentRequest(name=name, rest=Deployment.REST_STOPPED if stop else rest)
    answer = await coordinator.call(coordinator.admin.SleepDeployment, request, f"send {name} to sleep")
    if output is not Format.TABLE:
        write_item(answer.deployment, list, output)
        return
    report = Report.on_standard_output()
    if not wait:
        report.line(f"{name} is being {'stopped' if stop else 'sent to sleep'}")
        return
    with report.step(name) as step:
        woken = await until_at_rest(coordinator, name, lambda lines: step.update("; ".join(lines)), seconds)
        rests = f"{'stopped' if stop else 'asleep'}: a request wakes it, or studio wake {name}"
        step.done(f"awake again: {woken}" if woken else rests)
