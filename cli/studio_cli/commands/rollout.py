"""``studio rollout``: how far a deployment's change of revision is, and an operator's word on it."""

import time
from datetime import UTC, datetime
from typing import Annotated

import typer
from studio.v1.admin_service_pb2 import (
    GetRolloutRequest,
    GetRolloutResponse,
    PauseRolloutRequest,
    ResumeRolloutRequest,
    UndoRolloutRequest,
)
from studio.v1.deployment_pb2 import Deployment, Rollout
from studio_runtime.errors import StudioError, UnavailableError

from studio_cli import wording
from studio_cli.command import IfVersionOption, OutputOption, TimeoutOption, command
from studio_cli.completion import completed_by, deployment_names
from studio_cli.coordinator import Coordinator
from studio_cli.output import Format, write_item
from studio_cli.report import Report
from studio_cli.views.rollout import between, phase_of, progress_line, rollout_lines
from studio_cli.waiting import pause as wait_a_moment

NameArgument = Annotated[str, typer.Argument(metavar="NAME", autocompletion=completed_by(deployment_names))]
MOVING = {Rollout.PHASE_SURGE, Rollout.PHASE_CANARY, Rollout.PHASE_REPLACE}


class NotRolledOutError(StudioError):
    """The new revision does not take over."""

    reason = "not_rolled_out"


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    group = typer.Typer(
        name="rollout", help="Changes from one revision to another.", no_args_is_help=True, rich_markup_mode=None
    )
    app.add_typer(group)
    command(group, status, "studio rollout status chat", "studio rollout status chat --watch")
    command(group, pause, "studio rollout pause chat")
    command(group, resume, "studio rollout resume chat")
    command(group, undo, "studio rollout undo chat")


async def status(
    coordinator: Coordinator,
    name: NameArgument,
    output: OutputOption = Format.TABLE,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Go on until it is done; exit 1 where it is not.")
    ] = False,
    timeout: TimeoutOption = "1h",
) -> None:
    """Tell how far a rollout is.

    With --watch it ends when the new revision has taken over, or with exit code 1 when that was rolled back or paused.
    """
    seconds = wording.parse_duration(timeout)
    found = await _until_still(coordinator, name, output, seconds) if watch else await _look(coordinator, name)
    write_item(
        found.deployment, lambda: list(rollout_lines(found.deployment, found.replicas, datetime.now(UTC))), output
    )
    if watch and found.deployment.rollout.phase in (Rollout.PHASE_PAUSED, Rollout.PHASE_ROLLED_BACK):
        rollout = found.deployment.rollout
        raise NotRolledOutError(
            f"{name} {between(rollout)} is {phase_of(rollout)}: {rollout.reason}",
            f"studio rollout resume {name} goes on, or tries it again; studio events tells what happened.",
        )


async def pause(coordinator: Coordinator, name: NameArgument, if_version: IfVersionOption = 0) -> None:
    """Have both revisions stay as they are, until it is resumed or undone."""
    request = PauseRolloutRequest(name=name, expected_version=if_version)
    answer = await coordinator.call(coordinator.admin.PauseRollout, request, f"pause the rollout of {name}")
    _say(answer.deployment)


async def resume(coordinator: Coordinator, name: NameArgument, if_version: IfVersionOption = 0) -> None:
    """Go on with a rollout.

    A paused one goes on where it was, a canary is taken as good enough, and one that was rolled back is tried again.
    """
    request = ResumeRolloutRequest(name=name, expected_version=if_version)
    answer = await coordinator.call(coordinator.admin.ResumeRollout, request, f"resume the rollout of {name}")
    _say(answer.deployment)


async def undo(coordinator: Coordinator, name: NameArgument, if_version: IfVersionOption = 0) -> None:
    """Go back to the revision that served before.

    It stays there although the recipe's newest revision is another, until a newer one is applied or this one is resumed.
    """
    request = UndoRolloutRequest(name=name, expected_version=if_version)
    answer = await coordinator.call(coordinator.admin.UndoRollout, request, f"undo the rollout of {name}")
    _say(answer.deployment)


async def _look(coordinator: Coordinator, name: str) -> GetRolloutResponse:
    request = GetRolloutRequest(name=name)
    return await coordinator.call(coordinator.admin.GetRollout, request, f"look at the rollout of {name}")


async def _until_still(
    coordinator: Coordinator, name: str, output: Format, timeout_seconds: float
) -> GetRolloutResponse:
    """Wait until it moves no more, through short absences of the coordinator. Raises NotSettledError after the time."""
    deadline = time.monotonic() + timeout_seconds
    report = Report.on_standard_error() if output.is_data else Report.on_standard_output()
    with report.step(name) as step:
        while True:
            try:
                found = await _look(coordinator, name)
            except UnavailableError as error:
                line = f"waiting for the coordinator: {error.message}"
            else:
                rollout = found.deployment.rollout
                if rollout.phase not in MOVING:
                    step.done(phase_of(rollout).lower() if rollout.phase else "nothing changes")
                    return found
                line = progress_line(found.deployment, found.replicas)
            step.update(line)
            await wait_a_moment(deadline, f"the rollout of {name} is not done", timeout_seconds, (line,))


def _say(deployment: Deployment) -> None:
    rollout = deployment.rollout
    Report.on_standard_output().line(
        f"{deployment.name} {between(rollout)} {phase_of(rollout)}: {rollout.reason}; "
        f"studio rollout status {deployment.name} --watch follows it"
    )
