"""What a gateway process holds of a bound on slots, and when it gives it back."""

from studio.v1.route_pb2 import Limits
from studio.v1.route_service_pb2 import QuotaGrant, QuotaSettlement, QuotaSubject
from studio_gateway.quota.claims import Bound, Claim
from studio_gateway.quota.purse import IDLE_SECONDS, Purse

SLOTS = Bound("key:k", QuotaSubject.BOUND_CONCURRENCY)
NOW = 1_800_000_000.0


def a_claim(period: Limits.Period.ValueType = Limits.PERIOD_DAY) -> Claim:
    return Claim(SLOTS, 4, 1, period)


def a_purse(slots: int) -> Purse:
    """It holds so many slots, all of which it may keep unused."""
    purse = Purse()
    needs = purse.needs([[a_claim()]] * slots, NOW)
    purse.take_grants(needs, [QuotaGrant(subject=SLOTS.subject(), amount=slots, outage_amount=slots)], NOW)
    return purse


def returned(settlements: list[QuotaSettlement]) -> list[int]:
    return [item.returned for item in settlements]


def test_slots_that_may_be_kept_are_given_back_when_nobody_uses_them_any_more():
    purse = a_purse(2)
    assert purse.settlements(NOW + IDLE_SECONDS - 1) == []
    assert returned(purse.settlements(NOW + IDLE_SECONDS + 1)) == [2]
    assert not purse.has_anything()


def test_the_last_settlement_gives_back_all_but_what_is_in_use():
    purse = a_purse(2)
    reservation = purse.reserve([a_claim()], NOW)
    assert reservation is not None
    assert returned(purse.settlements(NOW, is_last=True)) == [1]
    assert purse.has_anything()
    purse.settle(reservation, 0, 0, NOW)
    assert returned(purse.settlements(NOW, is_last=True)) == [1]


def test_slots_outlast_another_period_of_the_budget():
    purse = a_purse(2)
    assert purse.reserve([a_claim(Limits.PERIOD_MONTH)] * 2, NOW) is not None
