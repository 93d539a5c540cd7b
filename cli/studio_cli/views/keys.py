"""``studio keys``."""

from collections.abc import Iterable
from datetime import datetime

from studio.v1.route_pb2 import ApiKey

from studio_cli import wording
from studio_cli.limit_options import describe_limits
from studio_cli.views.table import Column, Row, Table

COLUMNS = (
    Column("ID"),
    Column("NAME"),
    Column("STATE"),
    Column("MODELS"),
    Column("AGE", ticking=True),
    Column("EXPIRES", ticking=True),
    Column("TENANT"),
    Column("USER"),
    Column("LIMITS"),
    Column("LAST USED", ticking=True, wide=True),
)


def key_table(keys: Iterable[ApiKey], now: datetime) -> Table:
    """All ``keys``, the oldest first."""
    rows = tuple(key_row(key, now) for key in sorted(keys, key=lambda key: key.created_at.ToNanoseconds()))
    return Table(COLUMNS, rows, "there is no key: studio keys create NAME")


def key_row(key: ApiKey, now: datetime) -> Row:
    """One key, without its secret, which nobody has any more."""
    return Row(
        key.id,
        (
            key.id,
            key.name,
            key_state(key, now),
            ",".join(key.models) or "all",
            wording.age(key.created_at, now),
            describe_expiry(key, now),
            key.tenant or wording.NOTHING,
            key.user or wording.NOTHING,
            describe_limits(key.limits),
            wording.age(key.last_used_at, now),
        ),
    )


def key_state(key: ApiKey, now: datetime) -> str:
    """``valid``, ``expired`` or ``revoked``."""
    if key.HasField("revoked_at"):
        return "revoked"
    return "expired" if key.HasField("expires_at") and wording.moment(key.expires_at) <= now else "valid"


def describe_expiry(key: ApiKey, now: datetime) -> str:
    """``in 6d23h``, ``never``."""
    if not key.HasField("expires_at"):
        return "never"
    left = (wording.moment(key.expires_at) - now).total_seconds()
    return f"in {wording.duration(left)}" if left > 0 else f"{wording.duration(-left)} ago"
