"""When a failed engine is tried again, and when it is given up."""

from dataclasses import replace

from fakes.agent_records import NOW, a_failure, a_record
from hypothesis import given
from hypothesis import strategies as st
from studio_agent.plan.lifecycle import advance
from studio_agent.plan.record import ReplicaRecord, State
from studio_agent.plan.restarts import (
    FREE_PORT_CONFLICTS,
    PORT_IN_USE,
    RestartPolicy,
    is_due,
    record_failure,
    record_restart,
)

POLICY = RestartPolicy()


def tried_again(record: ReplicaRecord, now: float) -> ReplicaRecord:
    record = record_restart(record, now)
    preparing = advance(replace(record, engine=None), State.STATE_PREPARING, "again", now)
    return advance(preparing, State.STATE_STARTING, "loads", now)


def test_waits_double_and_the_budget_ends() -> None:
    record, now, waits = a_record(), NOW, []
    for _ in range(3):
        record = record_failure(record, a_failure(), now, POLICY)
        assert not record.gave_up
        assert record.retry_at is not None
        waits.append(record.retry_at - now)
        now = record.retry_at
        record = tried_again(record, now)
    assert waits == [1, 2, 4]
    record = record_failure(record, a_failure(), now, POLICY)
    assert record.gave_up
    assert record.retry_at is None
    assert record.restart_count == 3
    assert "given up after 3 restarts in 10 min" in record.reason


def test_the_wait_has_an_upper_end() -> None:
    record = a_record(restarts=tuple(NOW - n for n in range(20)))
    assert record_failure(record, a_failure(), NOW, RestartPolicy(budget=50)).retry_at == NOW + 60


def test_old_restarts_do_not_count() -> None:
    record = a_record(restarts=(NOW - 700, NOW - 650, NOW - 601), restart_count=3)
    failed = record_failure(record, a_failure(), NOW, POLICY)
    assert failed.retry_at == NOW + 1
    assert failed.restarts == ()
    assert failed.restart_count == 3


def test_what_no_retry_can_mend_burns_no_restart() -> None:
    failed = record_failure(a_record(), a_failure("weights_oom", retryable=False), NOW, POLICY)
    assert failed.gave_up
    assert failed.restart_count == 0


def test_a_lost_port_is_free_but_not_for_ever() -> None:
    record, tries = a_record(), 0
    while not (record := record_failure(record, a_failure(PORT_IN_USE), NOW, POLICY)).gave_up:
        tries += 1
        record = tried_again(record, NOW)
        if tries == FREE_PORT_CONFLICTS:
            assert record.restart_count == 0
    # Each restart that is charged makes the next few free again.
    assert tries == POLICY.budget * (FREE_PORT_CONFLICTS + 1) + FREE_PORT_CONFLICTS
    assert record.restart_count == POLICY.budget


def test_the_port_that_was_taken_is_remembered() -> None:
    failed = record_failure(a_record(), a_failure(PORT_IN_USE), NOW, POLICY)
    assert failed.taken_ports == (20_000,)


@given(st.floats(-1e6, 1e6))
def test_a_clock_that_is_set_back_never_prolongs_a_wait(step: float) -> None:
    failed = record_failure(a_record(), a_failure(), NOW, POLICY)
    now = NOW + step
    assert is_due(failed, now) == (now < NOW or now >= NOW + 1)


@given(st.lists(st.tuples(st.sampled_from(["exited", PORT_IN_USE]), st.floats(0, 300)), max_size=30))
def test_no_window_ever_holds_more_restarts_than_the_budget(history: list[tuple[str, float]]) -> None:
    record, now = a_record(), NOW
    charged: list[float] = []
    for reason, pause in history:
        record = record_failure(record, a_failure(reason), now, POLICY)
        if record.gave_up:
            break
        assert record.retry_at is not None
        now = max(now + pause, record.retry_at)
        before = record.restart_count
        record = tried_again(record, now)
        charged += [now] * (record.restart_count - before)
    for at in charged:
        assert sum(at <= other < at + POLICY.window_seconds for other in charged) <= POLICY.budget
