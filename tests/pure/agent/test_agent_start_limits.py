"""The two limits of a start."""

from hypothesis import given
from hypothesis import strategies as st
from studio_agent.plan.start_limits import STALLED, TIMED_OUT, StartLimits, overdue

GIB = 2**30
LIMITS = StartLimits(no_progress_seconds=60, total_seconds=600, slowest_bytes_per_second=GIB)


def test_a_start_that_goes_on_is_left_alone() -> None:
    assert overdue(LIMITS, 0, 599, 59) is None


def test_one_that_stands_still_is_stopped_long_before_the_total() -> None:
    over = overdue(LIMITS, 100 * GIB, 61, 61)
    assert over is not None
    assert (over.reason, over.clause) == (STALLED, "it made no progress for 60 s")


def test_the_total_grows_with_the_model() -> None:
    over = overdue(LIMITS, 0, 601, 0)
    assert over is not None
    assert (over.reason, over.clause) == (TIMED_OUT, "it was not ready after 600 s")
    assert overdue(LIMITS, 100 * GIB, 700, 0) is None
    over = overdue(LIMITS, 100 * GIB, 701, 0)
    assert over is not None
    assert "100.0 GiB" in over.clause


@given(st.integers(0, 2**45), st.integers(0, 2**45))
def test_more_to_read_never_means_less_time(one: int, more: int) -> None:
    assert LIMITS.whole(one) <= LIMITS.whole(one + more)
