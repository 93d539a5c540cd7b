"""What is counted of a canary: only what came since it began, of both revisions, through restarts of gateways."""

import pytest
from fakes.world import START, stamp
from hypothesis import given
from hypothesis import strategies as st
from studio.v1.deployment_pb2 import Deployment, Rollout
from studio.v1.replica_pb2 import Histogram, Replica
from studio.v1.route_service_pb2 import EndpointTraffic, TrafficReport
from studio_coordinator.knowledge.canaries import CanaryWatch, median

ROWS = [
    Replica(id="chat-1", deployment="chat", recipe_name="qwen", recipe_revision=1),
    Replica(id="chat-2", deployment="chat", recipe_name="qwen", recipe_revision=2),
    Replica(id="other-1", deployment="other", recipe_name="qwen", recipe_revision=2),
]


def a_canary(**changes: object) -> Deployment:
    rollout = Rollout(
        **{
            "from_recipe": "qwen",
            "from_revision": 1,
            "to_recipe": "qwen",
            "to_revision": 2,
            "phase": Rollout.PHASE_CANARY,
            "since": stamp(START),
        }
        | changes
    )
    return Deployment(name="chat", rollout=rollout)


def a_report(instance: str, old: int, new: int, failed: int = 0) -> TrafficReport:
    def seen(replica_id: str, revision: int, requests: int, failed: int = 0) -> EndpointTraffic:
        times = Histogram(upper_bounds=[0.1, 0.3, float("inf")], counts=[0, requests, requests], count=requests)
        return EndpointTraffic(
            replica_id=replica_id,
            recipe_revision=revision,
            requests=requests,
            failed=failed,
            time_to_first_token_seconds=times,
        )

    ends = [seen("chat-1", 1, old), seen("chat-2", 2, new, failed), seen("other-1", 2, 500)]
    return TrafficReport(gateway_instance_id=instance, endpoints=ends)


def test_what_was_counted_before_it_began_is_not_its_own() -> None:
    watch = CanaryWatch()
    watch.watched([a_canary()], ROWS, [a_report("g1", 100, 5, 5)], 10.0)
    found = watch.watched([a_canary()], ROWS, [a_report("g1", 140, 25, 6)], 40.0)["chat"]
    assert (found.seconds, found.old.requests, found.new.requests, found.new.failed) == (30.0, 40, 20, 1)
    assert found.new.median_seconds == pytest.approx(0.2)


def test_a_gateway_that_starts_anew_counts_from_nothing_and_others_go_on() -> None:
    watch = CanaryWatch()
    watch.watched([a_canary()], ROWS, [a_report("g1", 100, 50), a_report("g2", 10, 10)], 0.0)
    found = watch.watched([a_canary()], ROWS, [a_report("g1-again", 3, 2), a_report("g2", 14, 11)], 1.0)["chat"]
    assert (found.old.requests, found.new.requests) == (7, 3)


def test_a_canary_that_begins_again_is_watched_anew() -> None:
    watch = CanaryWatch()
    watch.watched([a_canary()], ROWS, [a_report("g1", 0, 0)], 0.0)
    assert watch.watched([a_canary(phase=Rollout.PHASE_PAUSED)], ROWS, [a_report("g1", 90, 90)], 5.0) == {}
    found = watch.watched([a_canary(reason="resumed")], ROWS, [a_report("g1", 90, 90)], 9.0)["chat"]
    assert (found.seconds, found.new.requests) == (0.0, 0)


@given(st.lists(st.floats(0.001, 0.999), min_size=1, max_size=50))
def test_the_median_lies_in_the_bucket_of_the_true_one(values: list[float]) -> None:
    bounds = [number / 10 for number in range(1, 11)]
    within = {bound: sum(value <= bound for value in values) for bound in bounds}
    found = median(within, len(values))
    assert found is not None
    low, high = sorted(values)[(len(values) - 1) // 2], sorted(values)[len(values) // 2]
    assert low - 0.1 <= found <= high + 0.1


def test_no_values_have_no_median() -> None:
    assert median({0.1: 0}, 0) is None
    assert median({}, 4) is None
