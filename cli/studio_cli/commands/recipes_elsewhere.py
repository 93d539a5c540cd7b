"""``studio recipes validate|export|import``: recipes in files, those of the upstream vLLM Studio among them."""

import sys
from typing import Annotated

import typer
from studio.v1.admin_service_pb2 import Applied, ConvertRecipesRequest, ConvertRecipesResponse, ListRecipesRequest
from studio_runtime.errors import InvalidError

from studio_cli.command import OutputOption, command
from studio_cli.commands.apply import read_manifest, request_for, tell_applied
from studio_cli.commands.state import write_manifest
from studio_cli.completion import completed_by, recipe_names
from studio_cli.coordinator import Coordinator
from studio_cli.output import Format, write_data, write_lines
from studio_cli.report import Report
from studio_cli.views.plain import plain
from studio_cli.views.recipes import conversion_table
from studio_cli.views.table import lay_out


def register(recipes: typer.Typer) -> None:
    """Add the commands to the group ``recipes``."""
    command(recipes, validate, "studio recipes validate -f recipe.yaml")
    command(recipes, export, "studio recipes export > recipes.yaml", "studio recipes export qwen3 llama", name="export")
    command(
        recipes,
        import_upstream,
        "studio recipes import recipes.json --dry-run",
        "studio recipes import recipes.json --manifest > recipes.yaml",
        "curl -s http://old-host:8080/recipes | studio recipes import -",
        name="import",
    )


async def validate(
    coordinator: Coordinator,
    file: Annotated[str, typer.Option("--file", "-f", metavar="FILE", help="The manifest; - reads standard input.")],
    output: OutputOption = Format.TABLE,
) -> None:
    """Look for everything that is wrong with a manifest, and change nothing.

    Exit 2 where something is, and every problem is listed with its line.
    """
    request = request_for(read_manifest(file), file, dry_run=True)
    answer = await coordinator.call(coordinator.admin.Apply, request, f"check {request.source_name}")
    if output.is_data:
        write_data([plain(one) for one in answer.applied], output)
    else:
        write_lines([f"{one.kind.lower()} {one.name} is valid" for one in answer.applied])


async def export(
    coordinator: Coordinator,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]…", help="Default: all.", autocompletion=completed_by(recipe_names)),
    ] = None,
    output: OutputOption = Format.YAML,
) -> None:
    """Write recipes as a manifest: the newest revision of each.

    `studio export` writes deployments as well, and the revisions that they pin.
    """
    if not names:
        answer = await coordinator.call(coordinator.admin.ListRecipes, ListRecipesRequest(), "list the recipes")
        names = [one.recipe_name for one in answer.recipes]
    if names:
        await write_manifest(coordinator, [f"Recipe/{name}" for name in names], output)


async def import_upstream(
    coordinator: Coordinator,
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="JSON of the upstream vLLM Studio; - reads standard input.")
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would change and change nothing.")] = False,
    manifest: Annotated[
        bool, typer.Option("--manifest", help="Write the recipes as a manifest, to look at first; change nothing.")
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Also where there is a recipe or deployment of the name already.")
    ] = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Take recipes of the upstream vLLM Studio over.

    Tells what became of each field: mapped, renamed, obsolete, changed (kept, and means something else now) or refused. The name
    that a recipe served becomes a deployment, stopped until `studio start`.
    """
    upstream = ConvertRecipesRequest(upstream=read_manifest(file))
    converted = await coordinator.call(coordinator.admin.ConvertRecipes, upstream, f"convert {file}")
    if not converted.manifest:
        tell_fields(converted, to_error=True)
        raise InvalidError("no recipe can be taken over", "What was refused, and why, is listed above.")
    if manifest:
        tell_fields(converted, to_error=True)
        sys.stdout.write(converted.manifest)
        return
    request = request_for(converted.manifest, file, dry_run=dry_run, create_only=not replace)
    answer = await coordinator.call(coordinator.admin.Apply, request, f"apply what {file} became")
    if output.is_data:
        write_data({**plain(converted), "applied": [plain(one) for one in answer.applied]}, output)
        return
    tell_fields(converted, to_error=False)
    tell_applied(answer.applied, Report.on_standard_output(), dry_run=dry_run)
    if not replace and any(one.outcome == Applied.OUTCOME_UNCHANGED for one in answer.applied):
        Report.on_standard_error().line("what is unchanged was there already; --replace takes it over all the same")


def tell_fields(converted: ConvertRecipesResponse, *, to_error: bool) -> None:
    """What became of each field; on standard error where standard output is for something else."""
    lines = lay_out(conversion_table(converted.report), wide=False)
    if not to_error:
        write_lines(lines)
        return
    for line in lines:
        Report.on_standard_error().line(line.plain)
