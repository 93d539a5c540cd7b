"""``studio usage``."""

from collections.abc import Iterable, Sequence

from studio.v1.admin_service_pb2 import UsageTotal

from studio_cli import wording
from studio_cli.views.table import Column, Row, Table
from studio_cli.views.tenants import money

GROUPS = {"tenant": "tenant", "user": "user", "model": "model", "key": "key_id", "day": "day"}

# What half, 95 % and 99 % of the requests stay below.
SPREADS = ("time_to_first_token", "inter_token", "duration")

FIGURES = (
    Column("REQUESTS", right=True),
    Column("FAILED", right=True),
    Column("PROMPT", right=True),
    Column("COMPLETION", right=True),
    Column("TTFT P50", right=True),
    Column("TTFT P95", right=True),
    Column("COST", right=True),
    Column("CACHED", right=True, wide=True),
    Column("TTFT P99", right=True, wide=True),
    Column("TOKEN P50", right=True, wide=True),
    Column("TOKEN P95", right=True, wide=True),
    Column("TOKEN P99", right=True, wide=True),
    Column("TIME P50", right=True, wide=True),
    Column("TIME P95", right=True, wide=True),
    Column("TIME P99", right=True, wide=True),
)


def usage_table(totals: Iterable[UsageTotal], group_by: Sequence[str]) -> Table:
    """One row per group: requests, tokens, and the time to the first token."""
    columns = (*(Column(group.upper()) for group in group_by), *FIGURES)
    return Table(columns, tuple(usage_row(total, group_by) for total in totals), "nothing was used in this time")


def usage_row(total: UsageTotal, group_by: Sequence[str]) -> Row:
    """One group."""
    names = tuple(str(getattr(total, GROUPS[group])) or wording.NOTHING for group in group_by)
    counts = (total.requests, total.failed, total.prompt_tokens, total.completion_tokens)
    p50, p95, *others = _times(total)
    more = (money(total.cost_micros), wording.number(total.cached_tokens), *others)
    return Row("/".join(names), (*names, *map(wording.number, counts), p50, p95, *more))


def _times(total: UsageTotal) -> list[str]:
    given = {field.name: value for field, value in total.ListFields()}
    names = [f"{what}_p{share}_seconds" for what in SPREADS for share in (50, 95, 99)]
    return [wording.seconds(given[name]) if name in given else wording.NOTHING for name in names]
