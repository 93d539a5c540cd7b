"""``studio apply``."""

import sys
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from studio.v1.admin_service_pb2 import Applied, ApplyRequest, ListDeploymentsRequest
from studio_runtime.errors import InvalidError, StudioError

from studio_cli import wording
from studio_cli.command import OutputOption, TimeoutOption, WaitOption, command
from studio_cli.coordinator import Coordinator
from studio_cli.output import Format, write_data
from studio_cli.report import Report, on_terminal
from studio_cli.views.plain import plain
from studio_cli.waiting import NotServingError, until_serving

VERBS = {
    Applied.OUTCOME_CREATED: "created",
    Applied.OUTCOME_CHANGED: "changed",
    Applied.OUTCOME_UNCHANGED: "unchanged",
}


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    command(
        app,
        apply,
        "studio apply -f recipe.yaml",
        "studio apply -f recipe.yaml --dry-run",
        "kustomize build . | studio apply -f - --wait",
    )


async def apply(
    coordinator: Coordinator,
    file: Annotated[str, typer.Option("--file", "-f", metavar="FILE", help="The manifest; - reads standard input.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would change and change nothing.")] = False,
    wait: WaitOption = None,
    timeout: TimeoutOption = "1h",
    output: OutputOption = Format.TABLE,
) -> None:
    """Put recipes and deployments in force.

    All of a manifest is taken, or nothing where something is wrong with it.
    """
    seconds = wording.parse_duration(timeout)
    request = ApplyRequest(
        manifest=read_manifest(file),
        dry_run=dry_run,
        idempotency_key=str(uuid.uuid4()),
        source_name="standard input" if file == "-" else file,
    )
    answer = await coordinator.call(coordinator.admin.Apply, request, f"apply {request.source_name}")
    report = Report.on_standard_output()
    if output.is_data:
        write_data([plain(one) for one in answer.applied], output)
        report = Report.on_standard_error()
    else:
        for one in answer.applied:
            report.line(describe_applied(one))
            for change in one.changes:
                report.line(f"  {change}")
        if dry_run:
            report.line("nothing was changed: this was a dry run")
    if not dry_run and (on_terminal() if wait is None else wait):
        await follow(coordinator, answer.applied, report, seconds)


def read_manifest(file: str) -> str:
    """The text of ``file``, or of standard input. Raises InvalidError."""
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidError(f"{file} cannot be read: {error.strerror}", "-f names a YAML or JSON file.") from None
    except UnicodeDecodeError as error:
        raise InvalidError(f"{file} is not UTF-8 text: {error.reason} at byte {error.start}") from None


def describe_applied(applied: Applied) -> str:
    """``recipe qwen3 changed (r8)``."""
    revision = f" (r{applied.revision})" if applied.revision else ""
    return f"{applied.kind.lower()} {applied.name} {VERBS.get(applied.outcome, 'applied')}{revision}"


async def follow(coordinator: Coordinator, applied: Sequence[Applied], report: Report, seconds: float) -> None:
    """Wait for what was put in force: the deployments, and those that follow a recipe. Raises NotServingError at the end."""
    recipes = {one.name for one in applied if one.kind == "Recipe"}
    names = {one.name for one in applied if one.kind == "Deployment"}
    answer = await coordinator.call(coordinator.admin.ListDeployments, ListDeploymentsRequest(), "list the deployments")
    names |= {one.name for one in answer.deployments if one.spec.recipe in recipes and not one.spec.recipe_revision}
    failures: list[StudioError] = []
    for name in sorted(names):
        try:
            await until_serving(coordinator, name, report, seconds)
        except NotServingError as error:
            failures.append(error)
    if failures:
        message = "; ".join(error.message for error in failures)
        hints = [error.hint for error in failures if error.hint]
        raise NotServingError(message, "\n".join([*hints, "`studio describe NAME` tells more."]))
