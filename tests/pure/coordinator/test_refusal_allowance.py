"""Refusals in the audit log: so many and no more, and none that is left out goes uncounted."""

from hypothesis import given
from hypothesis import strategies as st
from studio_coordinator.access.allowance import Allowance


@given(st.lists(st.floats(0, 120), max_size=200))
def test_no_more_are_entered_than_the_burst_and_what_came_back(pauses: list[float]) -> None:
    allowance, now, told, left_out = Allowance(5, 2), 0.0, 0, 0
    for pause in pauses:
        now += pause
        taken = allowance.take(now)
        if taken is not None:
            told, left_out = told + 1, left_out + taken
    assert told <= 5 + now * 2 / 60 + 1e-6
    # Every refusal is an entry, or counted by a later one, or by the next.
    after = allowance.take(now + 3600)
    assert after is not None
    assert told + left_out + after == len(pauses)


def test_a_burst_is_entered_then_few_and_each_says_how_many_are_missing() -> None:
    allowance = Allowance(2, 60)
    assert [allowance.take(0.0) for _ in range(5)] == [0, 0, None, None, None]
    assert [allowance.take(1.0), allowance.take(1.0)] == [3, None]
    assert allowance.take(2.0) == 1
