"""``studio export`` and ``studio import``: the desired state as a file."""

import sys
from typing import Annotated

import typer
import yaml
from studio.v1.admin_service_pb2 import ExportStateRequest

from studio_cli import wording
from studio_cli.command import OutputOption, TimeoutOption, WaitOption, command
from studio_cli.commands.apply import put_in_force, read_manifest, request_for
from studio_cli.completion import completed_by, exportable_names
from studio_cli.coordinator import Coordinator
from studio_cli.output import Format, write_data


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    command(
        app,
        export,
        "studio export > fleet.yaml",
        "studio export Recipe/qwen3 Deployment/chat",
        "studio export -o json | jq '.[].name'",
    )
    command(
        app,
        import_state,
        "studio import fleet.yaml --dry-run",
        "studio import fleet.yaml --keep-existing",
        "studio export --coordinator old:7070 | studio import - --coordinator new:7070",
        name="import",
    )


async def export(
    coordinator: Coordinator,
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KIND/NAME]…",
            help="Recipe/NAME, Recipe/NAME@REVISION or Deployment/NAME. Default: everything.",
            autocompletion=completed_by(exportable_names),
        ),
    ] = None,
    output: OutputOption = Format.YAML,
) -> None:
    """Write the whole desired state as a manifest: recipes, deployments, tenants, prices, providers, labels of hosts.

    `studio import` and `studio apply` take it. Revisions that deployments pin keep their numbers, and what an operator stopped
    stays stopped. Stored secrets are named and never written; older revisions and keys, which are hashes, are not in it.
    """
    await write_manifest(coordinator, names or [], output)


async def import_state(
    coordinator: Coordinator,
    file: Annotated[str, typer.Argument(metavar="FILE", help="What `studio export` wrote; - reads standard input.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would change and change nothing.")] = False,
    keep_existing: Annotated[
        bool, typer.Option("--keep-existing", help="Leave what is there already as it is.")
    ] = False,
    wait: WaitOption = None,
    timeout: TimeoutOption = "1h",
    output: OutputOption = Format.TABLE,
) -> None:
    """Put an exported state in force.

    All of it is taken, or nothing. What is not in the file stays as it is. Secrets that it names must be stored before, and hosts
    that it names must have joined.
    """
    seconds = wording.parse_duration(timeout)
    request = request_for(read_manifest(file), file, dry_run=dry_run, create_only=keep_existing)
    await put_in_force(coordinator, request, wait=wait, seconds=seconds, output=output)


async def write_manifest(coordinator: Coordinator, names: list[str], output: Format) -> None:
    """Write what is exported: as it is, which is YAML, or its documents as a list in JSON."""
    request = ExportStateRequest(names=names)
    manifest = (await coordinator.call(coordinator.admin.ExportState, request, "export the desired state")).manifest
    if output is Format.JSON:
        write_data(list(yaml.safe_load_all(manifest)), output)
    else:
        sys.stdout.write(manifest)
        sys.stdout.flush()
