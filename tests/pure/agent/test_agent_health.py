"""When an engine is hung, and when it only works hard."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from studio_agent.plan.health import (
    CANARIES,
    CanaryResult,
    HealthHistory,
    HealthLimits,
    Healthy,
    Hung,
    Look,
    Suspect,
    after_canary,
    after_canary_sent,
    after_look,
    judge_health,
    wants_canary,
)

LIMITS = HealthLimits(hang_seconds=60, quiet_seconds=60, silent_seconds=15, canary_seconds=15)


def frozen(seconds: int, *, requests: float = 2.0, answers: bool = True, begin: float = 0.0) -> HealthHistory:
    """An engine that was looked at every second, and nothing moved."""
    history = HealthHistory(begin)
    for second in range(seconds + 1):
        history = after_look(history, Look(begin + second, answers, requests, (10.0, 5.0, 0.1)))
    return history


def with_failed_canaries(history: HealthHistory, count: int, at: float) -> HealthHistory:
    for _ in range(count):
        history = after_canary(after_canary_sent(history, at), CanaryResult(at, at + 15, "no answer"))
        at += 15
    return history


def test_requests_that_move_are_healthy() -> None:
    history = HealthHistory(0.0)
    for second in range(300):
        history = after_look(
            history, Look(float(second), answers=True, requests=3.0, progress=(float(second), 0.0, 0.0))
        )
        assert judge_health(history, float(second), LIMITS) == Healthy()
        assert not wants_canary(history, float(second), LIMITS)


def test_a_standstill_is_suspect_then_hung_after_two_canaries() -> None:
    history = frozen(59)
    assert judge_health(history, 59.0, LIMITS) == Healthy()
    verdict = judge_health(history, 60.0, LIMITS)
    assert isinstance(verdict, Suspect)
    assert "60 s with 2 requests" in verdict.reason
    assert wants_canary(history, 60.0, LIMITS)
    once = with_failed_canaries(history, 1, 60.0)
    assert isinstance(judge_health(once, 75.0, LIMITS), Suspect)
    twice = with_failed_canaries(once, 1, 75.0)
    hung = judge_health(twice, 90.0, LIMITS)
    assert isinstance(hung, Hung)
    assert hung.failure == "hung"
    assert "no answer" in hung.reason


def test_canaries_are_apart_even_where_they_fail_at_once() -> None:
    history = after_canary_sent(frozen(60), 60.0)
    history = after_canary(history, CanaryResult(60.0, 60.1, "refused"))
    assert not wants_canary(history, 74.0, LIMITS)
    assert wants_canary(history, 75.0, LIMITS)


def test_a_canary_that_waits_behind_a_prefill_does_not_count() -> None:
    history = after_canary_sent(frozen(60), 60.0)
    # The cache fills while the prompt is worked through, though no token is counted yet.
    history = after_look(history, Look(70.0, answers=True, requests=2.0, progress=(10.0, 5.0, 0.2)))
    history = after_canary(history, CanaryResult(60.0, 75.0, "no answer within 15 s"))
    assert history.failed_canaries == 0
    assert judge_health(history, 75.0, LIMITS) == Healthy()


def test_a_long_standstill_that_ended_by_itself_is_allowed_three_times_as_long() -> None:
    history = after_look(frozen(50), Look(50.0, answers=True, requests=2.0, progress=(11.0, 5.0, 0.1)))
    history = replace(history, canary_sent_at=None)
    assert judge_health(history, 50.0 + 149, LIMITS) == Healthy()
    assert isinstance(judge_health(history, 50.0 + 150, LIMITS), Suspect)


def test_an_idle_engine_is_not_suspect_but_is_asked_now_and_then() -> None:
    history = frozen(100, requests=0.0)
    assert judge_health(history, 100.0, LIMITS) == Healthy()
    assert wants_canary(history, 100.0, LIMITS)
    answered = after_canary(after_canary_sent(history, 100.0), CanaryResult(100.0, 100.1))
    assert not wants_canary(answered, 159.0, LIMITS)
    hung = with_failed_canaries(history, 2, 100.0)
    assert isinstance(judge_health(hung, 130.0, LIMITS), Hung)


def test_a_request_that_has_just_come_starts_the_clock_anew() -> None:
    history = frozen(1000, requests=0.0)
    history = after_look(history, Look(1001.0, answers=True, requests=1.0, progress=(10.0, 5.0, 0.1)))
    assert judge_health(history, 1060.0, LIMITS) == Healthy()
    assert isinstance(judge_health(history, 1061.0, LIMITS), Suspect)


def test_silence_is_unresponsive_after_two_canaries() -> None:
    history = HealthHistory(0.0)
    for second in range(16):
        history = after_look(history, Look(float(second), answers=False))
    assert isinstance(judge_health(history, 15.0, LIMITS), Suspect)
    verdict = judge_health(with_failed_canaries(history, 2, 15.0), 45.0, LIMITS)
    assert isinstance(verdict, Hung)
    assert verdict.failure == "unresponsive"


def test_an_engine_without_counters_is_judged_by_http_alone() -> None:
    """With one slot a canary waits behind the answer that is being given, so its failure means nothing while HTTP answers."""
    history = HealthHistory(0.0)
    for second in range(1000):
        history = after_look(history, Look(float(second), answers=True))
        assert judge_health(history, float(second), LIMITS) == Healthy()
        assert not wants_canary(history, float(second), LIMITS)
    history = with_failed_canaries(after_look(history, Look(1000.0, answers=False)), 2, 1000.0)
    history = after_look(history, Look(1031.0, answers=True))
    assert judge_health(history, 1031.0, LIMITS) == Healthy()


def test_a_page_that_cannot_be_read_for_a_moment_tells_nothing() -> None:
    history = after_look(frozen(30), Look(31.0, answers=True))
    assert history.waiting_since == 0.0
    assert history.requests == 2.0


looks = st.builds(
    Look,
    at=st.just(0.0),
    answers=st.booleans(),
    requests=st.none() | st.sampled_from([0.0, 1.0, 7.0]),
    progress=st.none() | st.tuples(st.integers(0, 3).map(float)),
)
steps = st.lists(st.tuples(st.integers(1, 40), st.one_of(looks, st.sampled_from(["", "no answer"]))), max_size=60)


@given(steps)
def test_nothing_is_hung_without_two_canaries_that_failed_since_it_last_proved_itself(
    story: list[tuple[int, Look | str]],
) -> None:
    history, now, failed = HealthHistory(0.0), 0.0, 0
    for pause, step in story:
        now += pause
        if isinstance(step, Look):
            moved = None not in (step.progress, history.progress) and step.progress != history.progress
            history = after_look(history, replace(step, at=now))
            failed = 0 if moved else failed
        else:
            sent = now
            now += 15
            history = after_canary(after_canary_sent(history, sent), CanaryResult(sent, now, step))
            failed = failed + 1 if step else 0
        verdict = judge_health(history, now, LIMITS)
        if isinstance(verdict, Hung):
            assert failed >= CANARIES
            assert not wants_canary(history, now, LIMITS)
        if isinstance(verdict, Suspect):
            # It is never left at that: the next canary is at most one canary's limit away.
            assert wants_canary(history, now + LIMITS.canary_seconds, LIMITS)


@given(st.lists(st.floats(0.1, 19.0), min_size=1, max_size=80), st.lists(st.booleans(), min_size=1, max_size=20))
def test_what_moves_faster_than_the_limit_is_never_even_suspect(gaps: list[float], canaries: list[bool]) -> None:
    history, now = HealthHistory(0.0), 0.0
    answers = itertools.cycle(canaries)
    for count, gap in enumerate(gaps):
        sent, now = now, now + gap
        history = after_look(history, Look(now, answers=True, requests=1.0, progress=(float(count),)))
        if count:
            history = after_canary(history, CanaryResult(sent, now, "" if next(answers) else "no answer"))
        assert judge_health(history, now, LIMITS) == Healthy()


@pytest.mark.parametrize("requests", [0.0, 1.0])
def test_a_frozen_engine_is_found_out_in_bounded_time(requests: float) -> None:
    history, now = frozen(0, requests=requests), 0.0
    while not isinstance(verdict := judge_health(history, now, LIMITS), Hung):
        now += 1
        history = after_look(history, Look(now, answers=True, requests=requests, progress=(10.0, 5.0, 0.1)))
        if wants_canary(history, now, LIMITS):
            history = after_canary(after_canary_sent(history, now), CanaryResult(now, now + 15, "no answer"))
        assert now <= LIMITS.hang_seconds + 2 * LIMITS.canary_seconds, verdict
