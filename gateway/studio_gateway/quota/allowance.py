"""What this process may still spend of one bound ★.

::

    held ──reserve──► with a request ──settle──► spent
      ▲                    │
      └──what it left over─┘

Units belong to a window; when the next begins, what was held is void. While no coordinator answers, the outage amount of a new
minute is held too, once; asking in that minute closes this way, and says what was spent by it.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

from studio.v1.route_pb2 import Limits
from studio.v1.route_service_pb2 import QuotaGrant, QuotaSettlement, QuotaSubject

from studio_gateway.quota.claims import Bound

PER_MINUTE = frozenset((QuotaSubject.BOUND_REQUESTS_PER_MINUTE, QuotaSubject.BOUND_TOKENS_PER_MINUTE))
BUDGETS = frozenset((QuotaSubject.BOUND_TOKEN_BUDGET, QuotaSubject.BOUND_MONEY_BUDGET))
MINUTE, DAY, MONTHS = 60, 86_400, 12
ENDLESS = 0
# Of a bound: what may lie here unused before it is given back, and how long a burst may pause before that.
KEPT_PART = 4
SETTLED_SECONDS = 0.5


def window_of(bound: QuotaSubject.Bound.ValueType, period: Limits.Period.ValueType, now: float) -> int:
    """The number of the window that ``now`` is in, as the coordinator counts windows."""
    if bound in PER_MINUTE:
        return int(now // MINUTE)
    if bound not in BUDGETS or period == Limits.PERIOD_TOTAL:
        return ENDLESS
    if period == Limits.PERIOD_MONTH:
        date = datetime.fromtimestamp(now, UTC)
        return date.year * MONTHS + date.month - 1
    return int(now // DAY)


@dataclass(slots=True)
class Allowance:
    """One bound. All amounts are units: requests, tokens, slots, millionths of the currency."""

    bound: Bound
    limit: int
    period: Limits.Period.ValueType
    window: int
    held: int = 0
    # With requests that have not ended.
    reserved: int = 0
    # Taken of the outage amount in this window.
    alone: int = 0
    outage_amount: int = 0
    # Spent beyond everything that was held, until the coordinator knows of it.
    overdrawn: int = 0
    # Nothing is to be had before.
    empty_until: float = 0.0
    used_at: float = 0.0

    def at(self, now: float) -> "Allowance":
        """This allowance in the window of ``now``."""
        window = window_of(self.bound.bound, self.period, now)
        if window != self.window:
            self.window = window
            self.held = self.alone = self.overdrawn = 0
            self.empty_until = 0.0
        return self

    def take(self, amount: int) -> None:
        """Reserve ``amount`` of what is held, which is enough."""
        self.held -= amount
        self.reserved += amount

    def give_back(self, window: int, amount: int, used: int) -> None:
        """A request that had reserved ``amount`` in ``window`` has ended, and used ``used``."""
        self.reserved -= amount
        if window != self.window:
            return
        self.held += amount - used
        if self.held < 0:
            self.overdrawn -= self.held
            self.held = 0

    def go_alone(self) -> None:
        """No coordinator answers, and none was asked in this window: the outage amount may be used."""
        if self.bound.bound in PER_MINUTE and not self.alone:
            self.alone = min(self.outage_amount, self.limit)
            self.held += self.alone

    def settlement(self, now: float, *, is_last: bool = False) -> QuotaSettlement | None:
        """What the coordinator has to be told with the next request; call it once for each request that is sent.

        The last of a bound gives back all that no request has.
        """
        unspent_alone = min(self.alone, self.held)
        overdrawn = self.overdrawn + self.alone - unspent_alone
        self.held -= unspent_alone
        self.alone = self.overdrawn = 0
        returned = self.held if is_last else self.surplus(now)
        self.held -= returned
        if not returned and not overdrawn:
            return None
        return QuotaSettlement(subject=self.bound.subject(), window=self.window, overdrawn=overdrawn, returned=returned)

    def surplus(self, now: float) -> int:
        """What lies here and is more than a process may keep unused."""
        if now - self.used_at < SETTLED_SECONDS:
            return 0
        kept = self.outage_amount
        if self.bound.bound != QuotaSubject.BOUND_CONCURRENCY:
            kept = max(kept, self.limit // KEPT_PART)
        return max(0, self.held - self.alone - kept)

    def granted(self, grant: QuotaGrant, asked: int, now: float) -> None:
        """The coordinator's answer to a need of ``asked``."""
        self.outage_amount = grant.outage_amount
        if grant.window != self.window:
            return
        self.held += grant.amount
        is_short = grant.amount < asked
        self.empty_until = now + max(0.2, grant.retry_after.ToNanoseconds() / 1e9) if is_short else 0.0
