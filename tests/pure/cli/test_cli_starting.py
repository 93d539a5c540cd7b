from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st
from studio.v1.deployment_pb2 import Deployment
from studio.v1.replica_pb2 import Failure, Replica, StartProgress
from studio_cli.views.starting import Verdict, describe_progress, describe_ready, describe_replica, judge, seconds_left

NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)


def at(seconds: float) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(NOW + timedelta(seconds=seconds))
    return stamp


def a_chat(**changes: object) -> Deployment:
    return Deployment(
        **{"name": "chat", "state": Deployment.STATE_PENDING, "target_revision": 2, "wanted_replicas": 1} | changes
    )


def a_replica(state: Replica.State, **changes: object) -> Replica:
    return Replica(
        **{"id": "chat-1", "deployment": "chat", "recipe_revision": 2, "host_name": "lab-1", "state": state} | changes
    )


def test_ready_when_enough_replicas_of_the_target_revision_serve():
    standing = judge(a_chat(), [a_replica(Replica.STATE_READY)], NOW)
    assert standing.verdict is Verdict.READY
    assert describe_ready(standing, 0.83) == "ready on lab-1 in 0.8 s"
    assert describe_ready(standing, 0.01) == "ready on lab-1"


def test_a_deployment_that_still_serves_the_old_revision_is_not_ready():
    old = a_replica(Replica.STATE_READY, recipe_revision=1)
    assert judge(a_chat(state=Deployment.STATE_READY), [old], NOW).verdict is Verdict.WAITING


def test_a_replica_that_is_to_go_does_not_count():
    going = a_replica(Replica.STATE_READY, retiring=True)
    assert judge(a_chat(), [going], NOW).verdict is Verdict.WAITING


def test_the_specification_counts_where_the_plan_has_not_run_yet():
    fresh = a_chat(wanted_replicas=0, spec={"replicas": {"min": 2}})
    assert judge(fresh, [a_replica(Replica.STATE_READY)], NOW).verdict is Verdict.WAITING


def test_nothing_to_wait_for_where_none_is_wanted():
    assert judge(a_chat(wanted_replicas=0, spec={"replicas": {"min": 0}}), [], NOW).verdict is Verdict.READY


def test_stopped_goes_before_everything():
    assert judge(a_chat(stopped=True, state=Deployment.STATE_FAILED), [], NOW).verdict is Verdict.STOPPED


def test_a_failure_that_is_tried_again_is_no_verdict():
    failing = a_replica(Replica.STATE_FAILED, failure=Failure(reason="exited", message="exit code 1"), retry_at=at(4))
    standing = judge(a_chat(), [failing], NOW)
    assert standing.verdict is Verdict.WAITING
    assert standing.lines == ("chat-1 on lab-1: failed: exited: exit code 1; tried again in 4s",)


def test_failed_when_no_replica_is_tried_again_and_the_latest_cause_is_told():
    lost = [
        a_replica(Replica.STATE_FAILED, id="chat-1", failure=Failure(reason="exited", at=at(-9))),
        a_replica(Replica.STATE_FAILED, id="chat-2", failure=Failure(reason="weights_oom", at=at(-2))),
    ]
    standing = judge(a_chat(wanted_replicas=2), lost, NOW)
    assert standing.verdict is Verdict.FAILED
    assert standing.failure is not None
    assert standing.failure.reason == "weights_oom"


def test_one_that_can_still_come_up_keeps_the_wait_going():
    replicas = [a_replica(Replica.STATE_FAILED), a_replica(Replica.STATE_STARTING, id="chat-2")]
    assert judge(a_chat(wanted_replicas=2), replicas, NOW).verdict is Verdict.WAITING


def test_a_failed_deployment_without_replicas_tells_its_own_reason():
    standing = judge(a_chat(state=Deployment.STATE_FAILED, state_reason="no host fits"), [], NOW)
    assert standing.verdict is Verdict.FAILED
    assert standing.failure is not None
    assert standing.failure.message == "no host fits"


def test_what_is_not_placed_says_why():
    assert judge(a_chat(state_reason="no host fits"), [], NOW).lines == ("no host fits",)


states = st.sampled_from(Replica.State.values())


@given(
    st.lists(st.builds(a_replica, states, retiring=st.booleans(), recipe_revision=st.integers(1, 2)), max_size=4),
    st.integers(1, 3),
)
def test_there_is_always_something_to_show_while_waiting_and_a_cause_when_failed(replicas: list[Replica], wanted: int):
    standing = judge(a_chat(wanted_replicas=wanted), replicas, NOW)
    if standing.verdict is Verdict.WAITING:
        assert all(standing.lines)
        assert standing.lines
    if standing.verdict is Verdict.FAILED:
        assert standing.failure is not None
        assert standing.failure.message
    assert (standing.verdict is Verdict.READY) == (len(standing.hosts) >= wanted)


def test_progress_in_words():
    progress = StartProgress(phase=StartProgress.PHASE_WEIGHTS, share=0.71, detail="shard 3 of 8", phase_since=at(-60))
    assert describe_progress(progress, NOW) == "weights 71 %, shard 3 of 8, about 24s left"
    assert describe_progress(StartProgress(phase=StartProgress.PHASE_WARM_UP), NOW) == "warm up"
    pending = a_replica(Replica.STATE_PENDING, host_name="", state_reason="waits for GPU 0")
    assert describe_replica(pending, NOW) == "pending: waits for GPU 0"


@pytest.mark.parametrize("share", [0.0, 0.01, 1.0])
def test_no_estimate_from_too_little_or_from_all(share: float):
    assert seconds_left(StartProgress(share=share, phase_since=at(-60)), NOW) == 0
    assert seconds_left(StartProgress(share=0.5, phase_since=at(-1)), NOW) == 0
    assert seconds_left(StartProgress(phase_since=at(-60)), NOW) == 0
