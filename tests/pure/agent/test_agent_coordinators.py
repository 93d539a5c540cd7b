"""Which coordinator an agent dials next."""

from hypothesis import given
from hypothesis import strategies as st
from studio_agent.session.coordinators import Coordinators
from studio_runtime.settings import Address

A, B, C = (Address("10.0.0.1", port) for port in (1, 2, 3))


def test_the_leader_that_a_standby_names_is_dialled_at_once() -> None:
    coordinators = Coordinators([A, B, C])
    assert coordinators.failed(leader=str(C))
    assert coordinators.current == C


def test_an_address_that_nobody_gave_the_agent_is_not_dialled() -> None:
    coordinators = Coordinators([A, B])
    assert coordinators.failed(leader="203.0.113.7:7070")
    assert coordinators.current == B


def test_each_is_tried_once_before_a_pause() -> None:
    coordinators = Coordinators([A, B, C])
    assert [coordinators.failed() for _ in range(3)] == [True, True, False]
    assert coordinators.current == A


def test_one_alone_is_never_dialled_without_a_pause() -> None:
    coordinators = Coordinators([A])
    assert not coordinators.failed(leader=str(A))


@given(st.lists(st.sampled_from(["", str(A), str(B), str(C)]), min_size=5, max_size=20))
def test_whatever_they_say_of_each_other_there_is_a_pause_soon(said: list[str]) -> None:
    coordinators = Coordinators([A, B, C])
    assert not all(coordinators.failed(leader) for leader in said)
