"""Options that bound what a key or a tenant may use."""

from typing import Annotated

import typer
from studio.v1.route_pb2 import Limits
from studio_runtime.errors import InvalidError

from studio_cli import wording

MICROS = 1_000_000
PERIODS = {"day": Limits.PERIOD_DAY, "month": Limits.PERIOD_MONTH, "total": Limits.PERIOD_TOTAL}

RequestsOption = Annotated[int | None, typer.Option("--requests-per-minute", min=1, help="Requests in a UTC minute.")]
TokensOption = Annotated[
    int | None, typer.Option("--tokens-per-minute", min=1, help="Prompt and completion tokens in a UTC minute.")
]
ConcurrencyOption = Annotated[int | None, typer.Option("--concurrency", min=1, help="Requests at the same time.")]
TokenBudgetOption = Annotated[
    int | None, typer.Option("--token-budget", min=1, help="Tokens in a whole budget period.")
]
MoneyBudgetOption = Annotated[
    float | None, typer.Option("--money-budget", help="Money in a whole budget period, in the currency of the prices.")
]
PeriodOption = Annotated[str, typer.Option("--budget-per", help="day, month (UTC) or total. Default: month.")]


def limits_of(
    requests: int | None,
    tokens: int | None,
    concurrency: int | None,
    token_budget: int | None,
    money_budget: float | None,
    period: str,
) -> Limits | None:
    """The limits that the options name; None where they name none."""
    if period and period not in PERIODS:
        raise InvalidError(f"a budget is not per {period!r}", f"Choose of: {', '.join(PERIODS)}.")
    limits = Limits(
        requests_per_minute=requests,
        tokens_per_minute=tokens,
        concurrency=concurrency,
        token_budget=token_budget,
        money_budget_micros=None if money_budget is None else round(money_budget * MICROS),
    )
    if not limits.ListFields():
        return None
    limits.budget_period = PERIODS[period or "month"]
    return limits


def describe_limits(limits: Limits) -> str:
    """``60 requests/min, 2 at once, 1,000,000 tokens/month``; a dash where nothing binds."""
    per = next((name for name, period in PERIODS.items() if period == limits.budget_period), "month")
    ending = " in total" if per == "total" else f"/{per}"
    parts = []
    if limits.HasField("requests_per_minute"):
        parts.append(f"{wording.number(limits.requests_per_minute)} requests/min")
    if limits.HasField("tokens_per_minute"):
        parts.append(f"{wording.number(limits.tokens_per_minute)} tokens/min")
    if limits.HasField("concurrency"):
        parts.append(f"{wording.number(limits.concurrency)} at once")
    if limits.HasField("token_budget"):
        parts.append(f"{wording.number(limits.token_budget)} tokens{ending}")
    if limits.HasField("money_budget_micros"):
        parts.append(f"{limits.money_budget_micros / MICROS:,.2f} money{ending}")
    return ", ".join(parts) or wording.NOTHING
