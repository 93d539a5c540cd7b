"""Copies of an identity are told from answers that were lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from studio.v1.identity_service_pb2 import Identity
from studio_coordinator.authority.clones import CloneWatch
from studio_coordinator.authority.renewal_rule import Verdict, judge, judge_call
from studio_coordinator.store.identities import IdentityRow


def stored(generation: int = 7, joined: int = 3) -> IdentityRow:
    return IdentityRow(Identity(id="h1", generation=generation), joined, "newest-key", "authority", frozenset())


@pytest.mark.parametrize(
    ("generation", "key", "verdict"),
    [
        (7, "another-key", Verdict.NEXT),
        (6, "newest-key", Verdict.AGAIN),
        (6, "another-key", Verdict.LOCK),
        (5, "newest-key", Verdict.LOCK),
        (3, "another-key", Verdict.LOCK),
        (2, "newest-key", Verdict.REFUSE),
        (8, "another-key", Verdict.NEXT),
    ],
)
def test_renewals(generation: int, key: str, verdict: Verdict) -> None:
    assert judge(stored(), generation, key) is verdict


@pytest.mark.parametrize(
    ("generation", "verdict"),
    [(7, Verdict.NEXT), (6, Verdict.NEXT), (5, Verdict.LOCK), (3, Verdict.LOCK), (2, Verdict.REFUSE)],
)
def test_calls(generation: int, verdict: Verdict) -> None:
    assert judge_call(stored(), generation) is verdict


@given(st.integers(1, 50), st.integers(1, 50))
def test_what_was_held_before_the_last_join_locks_nobody(joined: int, presented: int) -> None:
    row = stored(generation=joined + 5, joined=joined)
    if presented < joined:
        assert judge(row, presented, "any") is judge_call(row, presented) is Verdict.REFUSE


@given(st.lists(st.integers(1, 3), max_size=30))
def test_an_agent_that_is_only_restarted_is_never_taken_for_two(calls: list[int]) -> None:
    watch = CloneWatch()
    for start, times in enumerate(calls):
        assert not any(watch.called("h1", f"start-{start}") for _ in range(times))


def test_one_late_call_of_an_agent_that_ended_is_no_copy() -> None:
    watch = CloneWatch()
    assert not any(watch.called("h1", instance) for instance in ("a", "b", "a", "c", "d"))


def test_two_that_push_each_other_out_are_two_machines() -> None:
    watch = CloneWatch()
    assert [watch.called("h1", instance) for instance in "abab"] == [False, False, False, True]
    assert not watch.called("h2", "a")
