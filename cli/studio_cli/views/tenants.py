"""``studio tenants`` and ``studio prices``."""

from collections.abc import Iterable

from studio.v1.route_pb2 import Price, Tenant

from studio_cli import wording
from studio_cli.limit_options import MICROS, describe_limits
from studio_cli.views.table import Column, Row, Table

TENANTS = (
    Column("NAME"),
    Column("WEIGHT", right=True),
    Column("LIMITS"),
    Column("OF EACH USER"),
    Column("DESCRIPTION"),
)
CENT = 10_000
PRICES = (Column("MODEL"), Column("PROMPT", right=True), Column("COMPLETION", right=True), Column("CACHED", right=True))


def tenant_table(tenants: Iterable[Tenant]) -> Table:
    """All tenants."""
    rows = tuple(
        Row(
            one.name,
            (
                one.name,
                f"{one.weight:g}" if one.HasField("weight") else "1",
                describe_limits(one.limits),
                describe_limits(one.user_limits),
                one.description or wording.NOTHING,
            ),
        )
        for one in tenants
    )
    return Table(TENANTS, rows, "there is no tenant: studio tenants create NAME")


def price_table(prices: Iterable[Price]) -> Table:
    """What a million tokens of each model cost."""
    rows = tuple(Row(one.model, (one.model, *_amounts(one))) for one in prices)
    return Table(PRICES, rows, "no model has a price: studio prices set MODEL --prompt 0.50 --completion 1.50")


def _amounts(price: Price) -> tuple[str, str, str]:
    cached = price.cached_micros if price.HasField("cached_micros") else price.prompt_micros
    return money(price.prompt_micros), money(price.completion_micros), money(cached)


def money(micros: int) -> str:
    """``12.50``, ``0.0031``: two digits, or four where two do not say it."""
    return f"{micros / MICROS:,.{2 if micros % CENT == 0 or micros >= MICROS else 4}f}"
