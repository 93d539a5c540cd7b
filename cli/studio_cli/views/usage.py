"""``studio usage``."""

from collections.abc import Iterable, Sequence

from studio.v1.admin_service_pb2 import UsageTotal

from studio_cli import wording
from studio_cli.views.table import Column, Row, Table

GROUPS = {"model": "model", "key": "key_id", "day": "day"}

FIGURES = (
    Column("REQUESTS", right=True),
    Column("FAILED", right=True),
    Column("PROMPT", right=True),
    Column("COMPLETION", right=True),
    Column("TTFT P50", right=True),
    Column("TTFT P95", right=True),
)


def usage_table(totals: Iterable[UsageTotal], group_by: Sequence[str]) -> Table:
    """One row per group: requests, tokens, and the time to the first token."""
    columns = (*(Column(group.upper()) for group in group_by), *FIGURES)
    return Table(columns, tuple(usage_row(total, group_by) for total in totals), "nothing was used in this time")


def usage_row(total: UsageTotal, group_by: Sequence[str]) -> Row:
    """One group."""
    names = tuple(str(getattr(total, GROUPS[group])) or wording.NOTHING for group in group_by)
    counts = (total.requests, total.failed, total.prompt_tokens, total.completion_tokens)
    times = tuple(
        wording.seconds(getattr(total, field)) if total.HasField(field) else wording.NOTHING
        for field in ("time_to_first_token_p50_seconds", "time_to_first_token_p95_seconds")
    )
    return Row("/".join(names), (*names, *map(wording.number, counts), *times))
