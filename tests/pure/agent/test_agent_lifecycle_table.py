"""The table of states, the contract's enum and the diagram say the same."""

import re

import pytest
from fakes.agent_records import NOW, a_record
from studio.v1.replica_pb2 import Replica, StartProgress
from studio_agent.plan import lifecycle
from studio_agent.plan.lifecycle import TRANSITIONS, ForbiddenTransitionError, advance
from studio_agent.plan.record import State

STATES = [state for state in Replica.State.values() if state != Replica.STATE_UNSPECIFIED]


def short(state: int) -> str:
    return State.Name(state).removeprefix("STATE_")


def test_the_table_has_every_state_of_the_contract() -> None:
    assert set(TRANSITIONS) == set(STATES)
    assert {after for successors in TRANSITIONS.values() for after in successors} <= set(STATES)


def test_the_diagram_lists_the_table() -> None:
    listed = re.findall(r"^    ([A-Z]+)\s+->(.*)$", lifecycle.__doc__ or "", re.MULTILINE)
    diagram = {state: {word for word in re.split(r"[,\s]+", successors) if word} for state, successors in listed}
    assert diagram == {
        short(state): {short(after) for after in successors} for state, successors in TRANSITIONS.items()
    }


@pytest.mark.parametrize("before", STATES)
@pytest.mark.parametrize("after", STATES)
def test_advance_keeps_to_the_table(before: "State.ValueType", after: "State.ValueType") -> None:
    record = a_record(state=before)
    if after in TRANSITIONS[before]:
        moved = advance(record, after, "why", NOW + 1)
        assert (moved.state, moved.reason, moved.since) == (after, "why", NOW + 1)
    else:
        with pytest.raises(ForbiddenTransitionError, match=r"demo-1: STATE_\w+ -> STATE_\w+"):
            advance(record, after, "why", NOW + 1)


def test_progress_ends_with_the_start() -> None:
    starting = a_record(state=State.STATE_STARTING, progress=StartProgress(detail="weights"))
    assert advance(starting, State.STATE_READY, "up", NOW).progress is None


def test_a_stopped_replica_goes_nowhere_and_every_other_can_end() -> None:
    assert TRANSITIONS[State.STATE_STOPPED] == frozenset()
    entered = {State.STATE_PENDING, State.STATE_PREPARING} | {s for after in TRANSITIONS.values() for s in after}
    for state in entered - {State.STATE_STOPPED}:
        reachable, frontier = set(), {state}
        while frontier:
            reachable |= frontier
            frontier = {after for s in frontier for after in TRANSITIONS[s]} - reachable
        assert State.STATE_STOPPED in reachable, short(state)
