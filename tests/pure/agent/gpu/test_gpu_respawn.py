"""When the sampler's next child may start."""

from hypothesis import given
from hypothesis import strategies as st
from studio_agent.gpu.respawn import HOUR_SECONDS, History, Patience, seconds_until_start

PATIENCE = Patience()


def test_the_first_child_starts_at_once():
    assert seconds_until_start(History(), 0.0, PATIENCE) == 0


def test_the_delay_doubles_up_to_the_longest():
    delays = [seconds_until_start(History(failures=n, failed_at=50.0), 50.0, PATIENCE) for n in range(1, 13)]
    assert delays[:4] == [1, 2, 4, 8]
    assert delays[-1] == PATIENCE.longest_delay_seconds


def test_time_that_has_passed_counts():
    assert seconds_until_start(History(failures=3, failed_at=50.0), 53.0, PATIENCE) == 1
    assert seconds_until_start(History(failures=3, failed_at=50.0), 60.0, PATIENCE) == 0


def test_nothing_starts_while_too_many_are_left_behind():
    full = History(failures=1, left_behind=PATIENCE.live_children)
    assert seconds_until_start(full, 1e9, PATIENCE) is None
    assert seconds_until_start(History(failures=1, left_behind=PATIENCE.live_children - 1), 1e9, PATIENCE) == 0


def test_a_full_hour_has_to_pass_from_its_first_start():
    starts = [float(n) for n in range(PATIENCE.starts_per_hour)]
    history = History(failures=1, failed_at=100.0, starts=starts)
    assert seconds_until_start(history, 200.0, PATIENCE) == HOUR_SECONDS - 200.0
    assert seconds_until_start(history, HOUR_SECONDS + 0.5, PATIENCE) == 0


@given(st.lists(st.floats(0.01, 3000), min_size=1, max_size=200))
def test_whoever_obeys_never_starts_more_than_allowed_in_any_hour(lifetimes: list[float]):
    now, starts = 0.0, []
    failures, failed_at = 0, 0.0
    for lifetime in lifetimes:
        wait = seconds_until_start(History(failures, failed_at, starts), now, PATIENCE)
        assert wait is not None
        now += wait
        assert seconds_until_start(History(failures, failed_at, starts), now + 1e-6, PATIENCE) == 0
        starts.append(now)
        now += lifetime
        failures, failed_at = failures + 1, now
    for start in starts:
        # A hair is for rounding.
        assert sum(start <= other < start + HOUR_SECONDS - 1e-3 for other in starts) <= PATIENCE.starts_per_hour
