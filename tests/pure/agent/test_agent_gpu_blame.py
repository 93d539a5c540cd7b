"""Whose fault a failure is: the program's, or the GPU's."""

from hypothesis import given
from hypothesis import strategies as st
from studio.v1.replica_pb2 import Failure
from studio_agent.plan.gpu_blame import (
    REPLICAS_TO_QUARANTINE,
    WINDOW_SECONDS,
    XID_NEAR_SECONDS,
    SeenXid,
    Strikes,
    explained,
)

NOW = 1_700_000_000.0
XID = SeenXid("GPU-0", 79, "Reboot the host.", NOW)


def test_three_different_replicas_condemn_a_gpu() -> None:
    strikes = Strikes().struck(["GPU-0"], "a-1", NOW).struck(["GPU-0", "GPU-1"], "b-1", NOW + 1)
    assert strikes.condemned() == {}
    strikes = strikes.struck(["GPU-0"], "c-1", NOW + 2)
    assert strikes.condemned() == {"GPU-0": ["a-1", "b-1", "c-1"]}
    assert strikes.forgiven("GPU-0").condemned() == {}


def test_one_replica_that_fails_again_and_again_condemns_nothing() -> None:
    strikes = Strikes()
    for second in range(20):
        strikes = strikes.struck(["GPU-0"], "a-1", NOW + second)
    assert strikes.condemned() == {}


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.integers(0, int(2 * WINDOW_SECONDS))), max_size=12))
def test_only_failures_of_the_last_day_count(failures: list[tuple[str, int]]) -> None:
    failures.sort(key=lambda failure: failure[1])
    strikes = Strikes()
    for index, (replica, at) in enumerate(failures):
        strikes = strikes.struck(["GPU-0"], replica, float(at))
        recent = {name for name, when in failures[: index + 1] if at - when < WINDOW_SECONDS}
        assert bool(strikes.condemned()) == (len(recent) >= REPLICAS_TO_QUARANTINE)


def test_an_xid_on_one_of_its_gpus_explains_a_failure() -> None:
    failure = Failure(reason="exited", message="The engine exited with code 1.", retryable=True)
    better = explained(failure, ["GPU-1", "GPU-0"], [XID], NOW + 2)
    assert better is not None
    assert better.reason == "gpu_fault"
    assert "XID 79" in better.message
    assert "exited with code 1" in better.message
    assert better.hint == "Reboot the host."
    assert better.retryable
    # Once is enough.
    assert explained(better, ["GPU-0"], [XID], NOW + 2) is None


def test_other_gpus_and_other_times_explain_nothing() -> None:
    failure = Failure(reason="exited")
    assert explained(failure, ["GPU-1"], [XID], NOW) is None
    assert explained(failure, ["GPU-0"], [XID], NOW + XID_NEAR_SECONDS + 1) is None
    assert explained(failure, ["GPU-0"], [XID], NOW - XID_NEAR_SECONDS + 1) is not None
