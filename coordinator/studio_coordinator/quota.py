"""How bounds are shared out among gateways ★.

A gateway may spend only what it was leased, and the coordinator never leases more than the bound: so no crash, delay or
partition lets a key pass it. What is said of a bound in one *window* (a UTC minute, day or month; one window without end for
slots and total budgets)::

    bound = leased, spent or not  +  kept for gateways that may be on their own  +  free

*On their own*: while no coordinator answers, a gateway may use its outage amount of each new minute, but only in a minute in
which it has asked for nothing. Until it asks in a minute, that amount is kept for it; asking frees it.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

from studio.v1.route_pb2 import Limits
from studio.v1.route_service_pb2 import QuotaSubject

Bound = QuotaSubject.Bound

PER_MINUTE = frozenset((QuotaSubject.BOUND_REQUESTS_PER_MINUTE, QuotaSubject.BOUND_TOKENS_PER_MINUTE))
BUDGETS = frozenset((QuotaSubject.BOUND_TOKEN_BUDGET, QuotaSubject.BOUND_MONEY_BUDGET))

# The field of Limits that says how large a bound is.
FIELDS = {
    QuotaSubject.BOUND_REQUESTS_PER_MINUTE: "requests_per_minute",
    QuotaSubject.BOUND_TOKENS_PER_MINUTE: "tokens_per_minute",
    QuotaSubject.BOUND_CONCURRENCY: "concurrency",
    QuotaSubject.BOUND_TOKEN_BUDGET: "token_budget",
    QuotaSubject.BOUND_MONEY_BUDGET: "money_budget_micros",
}

MINUTE = 60
DAY = 86_400
MONTHS = 12
# The one window of what never begins anew.
ENDLESS = 0
# A lease beyond what is asked for takes this part of what is free, shared among the gateways: enough that most requests need not
# ask, and little that is left lying with one gateway while another has none.
PART = 4
# Together, the gateways' outage amounts are at most this part of a bound.
OUTAGE_PART = 2


@dataclass(frozen=True)
class Standing:
    """One bound in one window: its size, what is leased of it, what is kept for gateways that may be on their own."""

    limit: int
    leased: int
    kept: int = 0

    @property
    def free(self) -> int:
        """What can still be leased; never negative, though a bound that was lowered may be overdrawn."""
        return max(0, self.limit - self.leased - self.kept)


def limit_of(limits: Limits, bound: Bound.ValueType) -> int | None:
    """How large a bound is; None where it does not bind."""
    given = {field.name: value for field, value in limits.ListFields()}
    return given.get(FIELDS[bound])


def window_of(bound: Bound.ValueType, period: Limits.Period.ValueType, now: float) -> int:
    """The number of the window that ``now`` (seconds since the epoch) is in."""
    if bound in PER_MINUTE:
        return int(now // MINUTE)
    if bound not in BUDGETS or period == Limits.PERIOD_TOTAL:
        return ENDLESS
    if period == Limits.PERIOD_MONTH:
        date = datetime.fromtimestamp(now, UTC)
        return date.year * MONTHS + date.month - 1
    return int(now // DAY)


def seconds_left(bound: Bound.ValueType, period: Limits.Period.ValueType, now: float) -> float:
    """Until the next window begins; for a window without end, until it is worth asking again."""
    if bound in PER_MINUTE:
        return MINUTE - now % MINUTE
    if bound not in BUDGETS:
        return 1.0
    if period == Limits.PERIOD_MONTH:
        date = datetime.fromtimestamp(now, UTC)
        year, month = (date.year + 1, 1) if date.month == MONTHS else (date.year, date.month + 1)
        return datetime(year, month, 1, tzinfo=UTC).timestamp() - now
    return DAY - now % DAY


def grant(standing: Standing, asked: int, gateways: int) -> int:
    """How much to lease to one of ``gateways`` that asks for ``asked``: that, or a part of what is free if it is more."""
    ahead = standing.free // (PART * max(1, gateways))
    return min(standing.free, max(asked, ahead))


def outage_amount(limit: int, gateways: int, kept_for_others: int) -> int:
    """What one of ``gateways`` may use of each minute while no coordinator answers."""
    whole = limit // OUTAGE_PART
    return max(0, min(whole // max(1, gateways), whole - kept_for_others))
