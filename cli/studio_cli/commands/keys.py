"""``studio keys``."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from studio.v1.admin_service_pb2 import CreateKeyRequest, ListKeysRequest, RevokeKeyRequest

from studio_cli import wording
from studio_cli.command import OutputOption, command, noun
from studio_cli.completion import completed_by, deployment_names, key_ids
from studio_cli.coordinator import Coordinator
from studio_cli.output import Answer, Format, show_list, write_item
from studio_cli.report import Report
from studio_cli.views.keys import key_table


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    keys = noun(app, "keys", "Who may call the gateway.")
    command(keys, list_keys, "studio keys", "studio keys -o json", name="list")
    command(
        keys,
        create_key,
        "studio keys create ci",
        "studio keys create alice --model chat --model embed --expires 30d",
        name="create",
    )
    command(keys, revoke_key, "studio keys revoke 4f9c2a", name="revoke")


async def list_keys(coordinator: Coordinator, output: OutputOption = Format.TABLE) -> None:
    """List the keys."""

    async def fetch() -> Answer:
        answer = await coordinator.call(coordinator.admin.ListKeys, ListKeysRequest(), "list the keys")
        return Answer(list(answer.keys), key_table(answer.keys, datetime.now(UTC)))

    await show_list(fetch, output)


async def create_key(
    coordinator: Coordinator,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whom or what the key is for.")],
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="A model it may call; may be repeated. Default: all.", autocompletion=completed_by(deployment_names)
        ),
    ] = None,
    expires: Annotated[str, typer.Option(help="After how long it ends: 12h, 30d. Default: never.")] = "",
    output: OutputOption = Format.TABLE,
) -> None:
    """Make a key.

    It is shown this once and kept nowhere.
    """
    request = CreateKeyRequest(name=name, models=model or [], idempotency_key=str(uuid.uuid4()))
    if expires:
        request.expires_at.FromDatetime(datetime.now(UTC) + timedelta(seconds=wording.parse_duration(expires)))
    answer = await coordinator.call(coordinator.admin.CreateKey, request, f"create key {name}")
    write_item(answer, lambda: [answer.secret], output)
    if not output.is_data:
        Report.on_standard_error().line(f"key {answer.key.id} for {name}; it is shown only now")


async def revoke_key(
    coordinator: Coordinator,
    key_id: Annotated[str, typer.Argument(metavar="ID", autocompletion=completed_by(key_ids))],
) -> None:
    """End a key for good.

    Requests with it are refused from now on.
    """
    answer = await coordinator.call(coordinator.admin.RevokeKey, RevokeKeyRequest(id=key_id), f"revoke key {key_id}")
    Report.on_standard_output().line(f"key {answer.key.id} ({answer.key.name}) revoked")
