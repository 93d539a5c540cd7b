"""Which assignments are accepted."""

import pytest
from fakes.agent_records import a_record, an_assignment, assigned
from hypothesis import given
from hypothesis import strategies as st
from studio_agent.plan.assignment import Accept, Refuse, Same, judge_assignment
from studio_agent.plan.record import State


def test_the_first_assignment_is_accepted() -> None:
    assert judge_assignment(None, 0, an_assignment(assigned()), {}) == Accept()


@given(st.integers(0, 5), st.integers(0, 5), st.integers(0, 5), st.integers(0, 5))
def test_neither_term_nor_generation_ever_goes_back(
    generation: int, highest: int, next_generation: int, term: int
) -> None:
    current = an_assignment(generation=generation, term=highest)
    verdict = judge_assignment(current, highest, an_assignment(generation=next_generation, term=term), {})
    if term < highest or next_generation < generation:
        assert isinstance(verdict, Refuse)
    elif next_generation == generation:
        assert verdict == Same()
    else:
        assert verdict == Accept()


def test_the_same_document_of_a_newer_leader_is_the_same() -> None:
    current = an_assignment(assigned(), generation=4, term=1)
    assert judge_assignment(current, 1, an_assignment(assigned(), generation=4, term=2), {}) == Same()


def test_the_same_generation_with_other_content_is_refused() -> None:
    current = an_assignment(assigned(), generation=4)
    verdict = judge_assignment(current, 1, an_assignment(assigned("other-1"), generation=4), {})
    assert isinstance(verdict, Refuse)
    assert "other content" in verdict.reason


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "a b", ".hidden", "x" * 200, "a\n"])
def test_a_replica_id_that_is_no_folder_name_is_refused(name: str) -> None:
    verdict = judge_assignment(None, 0, an_assignment(assigned(name)), {})
    assert isinstance(verdict, Refuse)
    assert repr(name) in verdict.reason


def test_a_replica_named_twice_is_refused() -> None:
    verdict = judge_assignment(None, 0, an_assignment(assigned(), assigned()), {})
    assert isinstance(verdict, Refuse)
    assert "twice" in verdict.reason


@given(st.integers(0, 6), st.integers(0, 6), st.booleans())
def test_the_brake_holds_when_most_of_what_runs_would_stop(count: int, kept: int, confirmed: bool) -> None:
    kept = min(kept, count)
    names = [f"m-{n}" for n in range(count)]
    incoming = an_assignment(*map(assigned, names[:kept]), generation=2, confirmed=confirmed)
    verdict = judge_assignment(None, 0, incoming, {name: a_record(assigned(name)) for name in names})
    stopped = count - kept
    braked = stopped >= 2 and stopped > count / 2 and not confirmed
    assert (isinstance(verdict, Refuse) and verdict.braked) == braked


def test_another_generation_of_what_runs_counts_as_a_stop() -> None:
    records = {name: a_record(assigned(name)) for name in ("a-1", "b-1")}
    incoming = an_assignment(assigned("a-1", 2), assigned("b-1", 2), generation=2)
    assert isinstance(judge_assignment(None, 0, incoming, records), Refuse)


def test_what_does_not_serve_may_go() -> None:
    records = {name: a_record(assigned(name), State.STATE_FAILED) for name in ("a-1", "b-1")}
    assert judge_assignment(None, 0, an_assignment(generation=2), records) == Accept()
