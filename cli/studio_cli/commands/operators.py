"""``studio operators``: who may administer; and ``studio whoami``."""

import uuid
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated

import typer
from studio.v1.access_service_pb2 import (
    CreateOperatorRequest,
    GetCallerRequest,
    ListOperatorsRequest,
    Operator,
    RevokeOperatorRequest,
)

from studio_cli import wording
from studio_cli.command import OutputOption, command, noun
from studio_cli.completion import completed_by
from studio_cli.coordinator import Coordinator
from studio_cli.output import Answer, Format, show_list, write_item
from studio_cli.report import Report
from studio_cli.views.access import caller_line, operator_table


class Role(StrEnum):
    """What an operator may do."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    operators = noun(app, "operators", "Who may administer.")
    command(operators, list_operators, "studio operators", "studio operators -o json", name="list")
    command(
        operators,
        create_operator,
        "studio operators create ann --role admin",
        "studio operators create ci --role operator --tenant research --expires 90d > ci.token",
        name="create",
    )
    command(operators, revoke_operator, "studio operators revoke ann", name="revoke")
    command(app, whoami, "studio whoami", "studio whoami --context lab -o json")


async def list_operators(coordinator: Coordinator, output: OutputOption = Format.TABLE) -> None:
    """List the operators."""

    async def fetch() -> Answer:
        answer = await coordinator.call(coordinator.access.ListOperators, ListOperatorsRequest(), "list the operators")
        return Answer(list(answer.operators), operator_table(answer.operators, datetime.now(UTC)))

    await show_list(fetch, output)


async def create_operator(
    coordinator: Coordinator,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who it is for. A name is given once.")],
    role: Annotated[Role, typer.Option(help="viewer: reads. operator: changes. admin: also who may do what.")],
    tenant: Annotated[str, typer.Option(help="Sees and changes only what is this tenant's.")] = "",
    expires: Annotated[str, typer.Option(help="After how long it ends: 12h, 30d. Default: never.")] = "",
    output: OutputOption = Format.TABLE,
) -> None:
    """Make an operator and print its token.

    It is shown this once and kept nowhere.
    """
    request = CreateOperatorRequest(
        name=name, role=Operator.Role.Value(f"ROLE_{role.name}"), tenant=tenant, idempotency_key=str(uuid.uuid4())
    )
    if expires:
        request.expires_at.FromDatetime(datetime.now(UTC) + timedelta(seconds=wording.parse_duration(expires)))
    answer = await coordinator.call(coordinator.access.CreateOperator, request, f"create operator {name}")
    write_item(answer, lambda: [answer.token], output)
    if not output.is_data:
        Report.on_standard_error().line(f"operator {name}; the token is shown only now")


async def operator_names(coordinator: Coordinator) -> list[str]:
    """Names of operators that are not revoked."""
    answer = await coordinator.call(coordinator.access.ListOperators, ListOperatorsRequest(), "complete a name")
    return [one.name for one in answer.operators if not one.HasField("revoked_at")]


async def revoke_operator(
    coordinator: Coordinator,
    name: Annotated[str, typer.Argument(metavar="NAME", autocompletion=completed_by(operator_names))],
) -> None:
    """End an operator's token for good."""
    request = RevokeOperatorRequest(name=name)
    await coordinator.call(coordinator.access.RevokeOperator, request, f"revoke operator {name}")
    Report.on_standard_output().line(f"operator {name} revoked")


async def whoami(coordinator: Coordinator, output: OutputOption = Format.TABLE) -> None:
    """Say who you are to the coordinator."""
    answer = await coordinator.call(coordinator.access.GetCaller, GetCallerRequest(), "ask who you are")
    write_item(answer, lambda: [caller_line(answer)], output)
