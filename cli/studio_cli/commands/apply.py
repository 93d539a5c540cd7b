"""``studio apply``."""

import sys
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
import yaml
from studio.v1.admin_service_pb2 import Applied, ApplyRequest, ListDeploymentsRequest
from studio_runtime.errors import InvalidError, StudioError

from studio_cli import wording
from studio_cli.command import IfVersionOption, OutputOption, TimeoutOption, WaitOption, command
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
        "studio apply -f recipe.yaml --if-revision 7",
        "kustomize build . | studio apply -f - --wait",
    )


async def apply(
    coordinator: Coordinator,
    file: Annotated[str, typer.Option("--file", "-f", metavar="FILE", help="The manifest; - reads standard input.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would change and change nothing.")] = False,
    if_revision: Annotated[
        int,
        typer.Option(
            "--if-revision",
            metavar="N",
            min=0,
            show_default=False,
            help="Only if the manifest's recipe is still at revision N; else exit 4, with what changed.",
        ),
    ] = 0,
    if_version: IfVersionOption = 0,
    wait: WaitOption = None,
    timeout: TimeoutOption = "1h",
    output: OutputOption = Format.TABLE,
) -> None:
    """Put recipes and deployments in force.

    All of a manifest is taken, or nothing where something is wrong with it.
    """
    seconds = wording.parse_duration(timeout)
    text = read_manifest(file)
    request = request_for(text, file, dry_run=dry_run)
    request.expected_versions.update(expected(text, Recipe=if_revision, Deployment=if_version))
    await put_in_force(coordinator, request, wait=wait, seconds=seconds, output=output)


def request_for(text: str, file: str, *, dry_run: bool, create_only: bool = False) -> ApplyRequest:
    """What is asked of the coordinator, with a key of its own, so that a repeated call is one change."""
    return ApplyRequest(
        manifest=text,
        dry_run=dry_run,
        create_only=create_only,
        idempotency_key=str(uuid.uuid4()),
        source_name="standard input" if file == "-" else file,
    )


async def put_in_force(
    coordinator: Coordinator, request: ApplyRequest, *, wait: bool | None, seconds: float, output: Format
) -> None:
    """Apply, tell what came of it, and wait until it serves where that is wanted."""
    answer = await coordinator.call(coordinator.admin.Apply, request, f"apply {request.source_name}")
    report = Report.on_standard_output()
    if output.is_data:
        write_data([plain(one) for one in answer.applied], output)
        report = Report.on_standard_error()
    else:
        tell_applied(answer.applied, report, dry_run=request.dry_run)
    if not request.dry_run and (on_terminal() if wait is None else wait):
        await follow(coordinator, answer.applied, report, seconds)


def tell_applied(applied: Sequence[Applied], report: Report, *, dry_run: bool) -> None:
    """A line for each recipe and deployment, and for each of its changes."""
    for one in applied:
        report.line(describe_applied(one))
        for change in one.changes:
            report.line(f"  {change}")
    if dry_run:
        report.line("nothing was changed: this was a dry run")


def expected(text: str, **numbers: int) -> dict[str, int]:
    """``Kind/NAME`` to the number that must still hold, of each kind that has one. Raises InvalidError.

    A manifest must have exactly one document of such a kind, for the number is of one.
    """
    wanted = {kind: number for kind, number in numbers.items() if number}
    if not wanted:
        return {}
    try:
        documents = [document for document in yaml.safe_load_all(text) if isinstance(document, dict)]
    except yaml.YAMLError as error:
        raise InvalidError(f"the manifest cannot be read: {' '.join(str(error).split())}") from None
    versions = {}
    for kind, number in wanted.items():
        names = [str(document.get("name")) for document in documents if document.get("kind") == kind]
        if len(names) != 1:
            raise InvalidError(
                f"the manifest has {wording.count_of(len(names), kind.lower())}, and the number is of one",
                f"Apply the {kind.lower()} that it is meant for by itself.",
            )
        versions[f"{kind}/{names[0]}"] = number
    return versions


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
