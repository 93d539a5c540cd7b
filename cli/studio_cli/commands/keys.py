"""``studio keys``."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from studio.v1.admin_service_pb2 import (
    CreateKeyRequest,
    KeyModels,
    ListKeysRequest,
    RevokeKeyRequest,
    RotateKeyRequest,
    UpdateKeyRequest,
)
from studio.v1.route_pb2 import Limits

from studio_cli import wording
from studio_cli.command import OutputOption, command, noun
from studio_cli.completion import completed_by, deployment_names, key_ids
from studio_cli.coordinator import Coordinator
from studio_cli.limit_options import (
    ConcurrencyOption,
    MoneyBudgetOption,
    PeriodOption,
    RequestsOption,
    TokenBudgetOption,
    TokensOption,
    describe_limits,
    limits_of,
)
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
        "studio keys create batch --tenant research --user alice --tokens-per-minute 50000 --token-budget 20000000",
        name="create",
    )
    command(
        keys,
        update_key,
        "studio keys update 4f9c2a --concurrency 4",
        "studio keys update 4f9c2a --no-limits --all-models",
        name="update",
    )
    command(keys, rotate_key, "studio keys rotate 4f9c2a", "studio keys rotate 4f9c2a --overlap 1h", name="rotate")
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
    *,
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="A model it may call; may be repeated. Default: all.", autocompletion=completed_by(deployment_names)
        ),
    ] = None,
    expires: Annotated[str, typer.Option(help="After how long it ends: 12h, 30d. Default: never.")] = "",
    tenant: Annotated[str, typer.Option(help="Whose it is. Default: default.")] = "",
    user: Annotated[str, typer.Option(help="Which user of the tenant it is of: a person or a service.")] = "",
    requests: RequestsOption = None,
    tokens: TokensOption = None,
    concurrency: ConcurrencyOption = None,
    token_budget: TokenBudgetOption = None,
    money_budget: MoneyBudgetOption = None,
    budget_per: PeriodOption = "",
    output: OutputOption = Format.TABLE,
) -> None:
    """Make a key.

    It is shown this once and kept nowhere.
    """
    limits = limits_of(requests, tokens, concurrency, token_budget, money_budget, budget_per)
    request = CreateKeyRequest(
        name=name, models=model or [], idempotency_key=str(uuid.uuid4()), tenant=tenant, user=user, limits=limits
    )
    if expires:
        request.expires_at.FromDatetime(datetime.now(UTC) + timedelta(seconds=wording.parse_duration(expires)))
    answer = await coordinator.call(coordinator.admin.CreateKey, request, f"create key {name}")
    write_item(answer, lambda: [answer.secret], output)
    if not output.is_data:
        Report.on_standard_error().line(f"key {answer.key.id} for {name}; it is shown only now")


async def update_key(
    coordinator: Coordinator,
    key_id: Annotated[str, typer.Argument(metavar="ID", autocompletion=completed_by(key_ids))],
    *,
    name: str = "",
    user: Annotated[str | None, typer.Option(help='Which user of the tenant it is of; "": of none.')] = None,
    model: Annotated[list[str] | None, typer.Option(help="The models it may call from now on.")] = None,
    all_models: Annotated[bool, typer.Option("--all-models", help="It may call every model.")] = False,
    expires: Annotated[str, typer.Option(help="After how long from now it ends: 12h, 30d.")] = "",
    requests: RequestsOption = None,
    tokens: TokensOption = None,
    concurrency: ConcurrencyOption = None,
    token_budget: TokenBudgetOption = None,
    money_budget: MoneyBudgetOption = None,
    budget_per: PeriodOption = "",
    no_limits: Annotated[bool, typer.Option("--no-limits", help="Lift every limit of it.")] = False,
) -> None:
    """Change what a key may do; its secret stays.

    Limits that are named replace all that it had.
    """
    request = UpdateKeyRequest(id=key_id, name=name, user=user)
    limits = limits_of(requests, tokens, concurrency, token_budget, money_budget, budget_per)
    if no_limits or limits is not None:
        request.limits.CopyFrom(limits or Limits())
    if model or all_models:
        request.models.CopyFrom(KeyModels(models=[] if all_models else model))
    if expires:
        request.expires_at.FromDatetime(datetime.now(UTC) + timedelta(seconds=wording.parse_duration(expires)))
    answer = await coordinator.call(coordinator.admin.UpdateKey, request, f"change key {key_id}")
    Report.on_standard_output().line(f"key {answer.key.id}: {describe_limits(answer.key.limits)}")


async def rotate_key(
    coordinator: Coordinator,
    key_id: Annotated[str, typer.Argument(metavar="ID", autocompletion=completed_by(key_ids))],
    overlap: Annotated[str, typer.Option(help="How long the old key works beside the new one.")] = "24h",
    output: OutputOption = Format.TABLE,
) -> None:
    """Make a key with the same rights, and end the old one a little later.

    The new one is shown this once and kept nowhere.
    """
    request = RotateKeyRequest(id=key_id, idempotency_key=str(uuid.uuid4()))
    request.overlap.FromTimedelta(timedelta(seconds=wording.parse_duration(overlap)))
    answer = await coordinator.call(coordinator.admin.RotateKey, request, f"rotate key {key_id}")
    write_item(answer, lambda: [answer.secret], output)
    if not output.is_data:
        Report.on_standard_error().line(f"key {answer.key.id} follows {key_id}, which ends in {overlap}")


async def revoke_key(
    coordinator: Coordinator,
    key_id: Annotated[str, typer.Argument(metavar="ID", autocompletion=completed_by(key_ids))],
) -> None:
    """End a key for good.

    Requests with it are refused from now on.
    """
    answer = await coordinator.call(coordinator.admin.RevokeKey, RevokeKeyRequest(id=key_id), f"revoke key {key_id}")
    Report.on_standard_output().line(f"key {answer.key.id} ({answer.key.name}) revoked")
