"""``studio operators``, ``studio secrets``, ``studio audit``."""

from collections.abc import Iterable
from datetime import datetime

from studio.v1.access_service_pb2 import AuditEntry, GetCallerResponse, Operator, Secret

from studio_cli import wording
from studio_cli.views.table import Column, Row, Table

OPERATOR_COLUMNS = (
    Column("NAME"),
    Column("ROLE"),
    Column("TENANT"),
    Column("STATE"),
    Column("TOKEN"),
    Column("AGE", ticking=True),
    Column("LAST USED", ticking=True),
)
SECRET_COLUMNS = (
    Column("NAME"),
    Column("TENANT"),
    Column("USED BY"),
    Column("CHANGED", ticking=True),
    Column("BY"),
)
AUDIT_COLUMNS = (
    Column("SEQUENCE", right=True),
    Column("AT"),
    Column("ACTOR"),
    Column("ROLE"),
    Column("ACTION"),
    Column("OBJECT"),
    Column("OUTCOME"),
    Column("PEER", wide=True),
    Column("REQUEST", wide=True),
)
FLEET = "the whole fleet"


def role_word(role: "Operator.Role.ValueType") -> str:
    """``viewer``, ``operator``, ``admin``."""
    return Operator.Role.Name(role).removeprefix("ROLE_").lower()


def operator_table(operators: Iterable[Operator], now: datetime) -> Table:
    """All ``operators``, as they come."""
    rows = tuple(
        Row(
            one.name,
            (
                one.name,
                role_word(one.role),
                one.tenant or wording.NOTHING,
                operator_state(one, now),
                one.token_id,
                wording.age(one.created_at, now),
                wording.age(one.last_used_at, now),
            ),
        )
        for one in operators
    )
    return Table(OPERATOR_COLUMNS, rows, "there is no operator: studio operators create NAME --role ROLE")


def operator_state(operator: Operator, now: datetime) -> str:
    """``valid``, ``expired`` or ``revoked``."""
    if operator.HasField("revoked_at"):
        return "revoked"
    return "expired" if operator.HasField("expires_at") and wording.moment(operator.expires_at) <= now else "valid"


def secret_table(secrets: Iterable[Secret], now: datetime) -> Table:
    """All ``secrets``, without what they hide."""
    rows = tuple(
        Row(
            one.name,
            (
                one.name,
                one.tenant or wording.NOTHING,
                ", ".join(one.used_by) or "nobody",
                wording.age(one.updated_at, now),
                one.actor,
            ),
        )
        for one in secrets
    )
    return Table(SECRET_COLUMNS, rows, "no secret is stored: studio secrets put NAME")


def audit_table(entries: Iterable[AuditEntry]) -> Table:
    """``entries`` in their order."""
    rows = tuple(
        Row(
            str(one.sequence),
            (
                str(one.sequence),
                f"{wording.moment(one.at):%Y-%m-%d %H:%M:%S}",
                one.actor,
                one.role,
                one.action,
                one.object or wording.NOTHING,
                one.outcome,
                one.peer,
                one.request_id,
            ),
        )
        for one in entries
    )
    return Table(AUDIT_COLUMNS, rows, "nothing was changed yet")


def caller_line(caller: GetCallerResponse) -> str:
    """``ann, admin of the whole fleet``."""
    return f"{caller.name}, {role_word(caller.role)} of {caller.tenant or FLEET}"
