"""All that this process may spend ★: reserve before a request, settle after it, and say what has to be asked for."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from studio.v1.route_service_pb2 import QuotaGrant, QuotaNeed, QuotaSettlement, QuotaSubject

from studio_gateway.quota.allowance import BUDGETS, PER_MINUTE, Allowance, window_of
from studio_gateway.quota.claims import Bound, Claim

# An allowance that nobody used for so long goes, and what it held is given back.
IDLE_SECONDS = 900.0
# What is worth asking for before it is needed: when less than this part of the last grant is left.
LOW_PART = 4


@dataclass(frozen=True, slots=True)
class Part:
    """What a request holds of one bound."""

    allowance: Allowance
    window: int
    amount: int


@dataclass(frozen=True, slots=True)
class Reservation:
    """What one request holds until it ends."""

    parts: Sequence[Part]


class Purse:
    """Allowances by bound. ``now`` is seconds since the epoch everywhere."""

    def __init__(self) -> None:
        self._allowances: dict[Bound, Allowance] = {}
        self._low: dict[Bound, int] = {}

    def reserve(self, claims: Sequence[Claim], now: float) -> Reservation | None:
        """All of ``claims``, or None where one of them is not covered by what is held."""
        allowances = [self._of(claim, now) for claim in claims]
        if any(allowance.held < claim.amount for allowance, claim in zip(allowances, claims, strict=True)):
            return None
        for allowance, claim in zip(allowances, claims, strict=True):
            allowance.take(claim.amount)
        return Reservation(
            [
                Part(allowance, allowance.window, claim.amount)
                for allowance, claim in zip(allowances, claims, strict=True)
            ]
        )

    def settle(self, reservation: Reservation, tokens: int, micros: int, now: float) -> None:
        """A request has ended, and used so many tokens and so much money: the rest is there for others."""
        for part in reservation.parts:
            used = _used(part, tokens, micros)
            part.allowance.at(now).give_back(part.window, part.amount, used)

    def short_of(self, claims: Iterable[Claim], now: float) -> Claim | None:
        """The first claim that is not covered and will not be soon; None where it is worth asking."""
        for claim in claims:
            allowance = self._of(claim, now)
            if allowance.held < claim.amount and now < allowance.empty_until:
                return claim
        return None

    def empty_until(self, claim: Claim) -> float:
        """When it is worth asking for ``claim`` again."""
        return self._allowances[claim.bound].empty_until

    def needs(self, waiting: Iterable[Sequence[Claim]], now: float) -> list[QuotaNeed]:
        """What to ask for: what the requests that wait claim, and what runs low."""
        wanted: dict[Bound, int] = {}
        for claims in waiting:
            for claim in claims:
                self._of(claim, now)
                wanted[claim.bound] = wanted.get(claim.bound, 0) + claim.amount
        needs = []
        for bound, allowance in self._allowances.items():
            allowance.at(now)
            amount = wanted.get(bound, 0) - allowance.held
            runs_low = 0 < allowance.held < self._low.get(bound, 0) and now >= allowance.empty_until
            if amount > 0 or runs_low:
                needs.append(QuotaNeed(subject=bound.subject(), amount=max(1, amount), waiting=int(bound in wanted)))
        return needs

    def settlements(self, now: float, *, is_last: bool = False) -> list[QuotaSettlement]:
        """What to give back and to own up to; call it once for each request that is sent. The last gives back all."""
        found = []
        for bound, allowance in list(self._allowances.items()):
            is_idle = not allowance.reserved and now - allowance.used_at > IDLE_SECONDS
            if (settlement := allowance.at(now).settlement(now, is_last=is_last or is_idle)) is not None:
                found.append(settlement)
            if is_idle:
                del self._allowances[bound]
        return found

    def take_grants(self, asked: Sequence[QuotaNeed], grants: Sequence[QuotaGrant], now: float) -> None:
        """The coordinator's answer to ``needs``."""
        amounts = {bound_of(need.subject): need.amount for need in asked}
        for grant in grants:
            bound = bound_of(grant.subject)
            allowance = self._allowances.get(bound)
            if allowance is None:
                continue
            allowance.at(now).granted(grant, amounts.get(bound, 0), now)
            is_slots = bound.bound == QuotaSubject.BOUND_CONCURRENCY
            self._low[bound] = 0 if is_slots else grant.amount // LOW_PART

    def go_alone(self, now: float) -> None:
        """No coordinator answers, and none was asked in this minute."""
        for allowance in self._allowances.values():
            allowance.at(now).go_alone()

    def has_minutes(self) -> bool:
        """Whether anything is kept for this process in each minute in which it does not ask."""
        return any(one.outage_amount and bound.bound in PER_MINUTE for bound, one in self._allowances.items())

    def has_anything(self) -> bool:
        """Whether something was leased that is not given back yet, used at present or not."""
        return any(one.held or one.reserved for one in self._allowances.values())

    def has_surplus(self, now: float) -> bool:
        """Whether something lies here that others may need."""
        return any(one.at(now).surplus(now) > 0 for one in self._allowances.values())

    def _of(self, claim: Claim, now: float) -> Allowance:
        allowance = self._allowances.get(claim.bound)
        # Slots and minutes have no period: what is held of them stays when the budget's is another.
        has_period = claim.bound.bound in BUDGETS
        if allowance is None or (has_period and allowance.period != claim.period):
            window = window_of(claim.bound.bound, claim.period, now)
            allowance = self._allowances[claim.bound] = Allowance(claim.bound, claim.limit, claim.period, window)
        allowance.limit, allowance.used_at = claim.limit, now
        return allowance.at(now)


def bound_of(subject: QuotaSubject) -> Bound:
    """The key of what is held of it."""
    match subject.WhichOneof("owner"):
        case "key_id":
            owner = f"key:{subject.key_id}"
        case "user":
            owner = f"user:{subject.user}"
        case _:
            owner = f"tenant:{subject.tenant}"
    return Bound(owner, subject.bound)


def _used(part: Part, tokens: int, micros: int) -> int:
    match part.allowance.bound.bound:
        case QuotaSubject.BOUND_REQUESTS_PER_MINUTE:
            return part.amount
        case QuotaSubject.BOUND_CONCURRENCY:
            return 0
        case QuotaSubject.BOUND_MONEY_BUDGET:
            return micros
        case _:
            return tokens
