"""How long to wait before the next try."""

from hypothesis import given
from hypothesis import strategies as st
from studio_agent.session.reconnect import LONGEST_WAIT_SECONDS, QUICK_TRIES, STABLE_SECONDS, Backoff


def longest(_low: float, high: float) -> float:
    return high


def test_the_first_try_is_made_at_once_and_the_next_few_within_a_second() -> None:
    backoff = Backoff(longest)
    waits = [backoff.next_wait(0) for _ in range(QUICK_TRIES + 3)]
    assert waits[0] == 0
    assert waits[1 : QUICK_TRIES + 1] == [1] * QUICK_TRIES
    assert waits[QUICK_TRIES + 1 :] == [2, 4]


def test_only_a_connection_that_held_starts_the_count_anew() -> None:
    backoff = Backoff(longest)
    for _ in range(20):
        backoff.next_wait(STABLE_SECONDS - 1)
    assert backoff.next_wait(STABLE_SECONDS - 1) == LONGEST_WAIT_SECONDS
    assert backoff.next_wait(STABLE_SECONDS) == 0


@given(st.lists(st.floats(0, 100), max_size=50), st.floats(0, 60))
def test_a_server_that_asks_for_more_gets_it(held: list[float], asked: float) -> None:
    backoff = Backoff(longest)
    for seconds in held:
        assert asked <= backoff.next_wait(seconds, asked) <= asked + LONGEST_WAIT_SECONDS
