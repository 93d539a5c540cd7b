"""How deployments are asked for, from gateways' reports and an ideal clock."""

import time
from datetime import UTC, datetime, timedelta

from builders import a_deployment
from google.protobuf.timestamp_pb2 import Timestamp
from studio.v1.recipe_pb2 import LoraAdapter, Recipe
from studio.v1.route_service_pb2 import ModelTraffic, TrafficReport
from studio_coordinator.knowledge.demand import DemandLog
from studio_coordinator.plan.ladder import Demand

NOW = datetime(2026, 11, 24, tzinfo=UTC)


class Bench:
    """One deployment; what each gateway said last."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.log = DemandLog(lambda: self.now)
        self.said: dict[str, tuple[TrafficReport, float]] = {}
        self.recipe = Recipe()

    def says(self, gateway: str = "g1", age: float = 0.0, model: str = "chat", **traffic: object) -> None:
        report = TrafficReport(gateway_instance_id=gateway, models=[ModelTraffic(model=model, **traffic)])
        self.said[gateway] = report, age

    def look(self, *, all_known: bool = True) -> Demand | None:
        deployment = a_deployment()
        recipes = {(deployment.spec.recipe, deployment.target_revision): self.recipe}
        return self.log.demands([deployment], recipes, self.said.values(), all_known=all_known).get("chat")

    def seen(self) -> Demand:
        found = self.look()
        assert found is not None
        return found


def test_a_deployment_that_is_new_counts_as_just_asked_for() -> None:
    bench = Bench()
    assert bench.seen().idle_seconds == 0
    bench.now += 40
    assert bench.seen().idle_seconds == 40


def test_requests_anywhere_start_the_clock_anew() -> None:
    bench = Bench()
    bench.says("g1", requests=5)
    bench.says("g2", requests=0)
    bench.seen()
    bench.now += 40
    bench.says("g2", requests=1)
    assert bench.seen().idle_seconds == 0
    bench.now += 40
    assert bench.seen().idle_seconds == 40


def test_what_runs_or_waits_is_summed_over_gateways_and_is_no_idleness() -> None:
    bench = Bench()
    bench.says("g1", held=2, in_flight=1)
    bench.says("g2", age=3.0, held=1)
    bench.now += 100
    seen = bench.seen()
    assert (seen.held, seen.in_flight, seen.idle_seconds, seen.told_seconds_ago) == (3, 1, 0, 0.0)
    bench.now += 7
    assert bench.seen().waited_seconds == 7
    bench.says("g1")
    bench.says("g2")
    assert bench.seen().waited_seconds == 0


def test_while_a_gateway_is_away_nobody_is_known_to_be_idle_but_who_waits_is_heard() -> None:
    bench = Bench()
    bench.says(requests=1)
    assert bench.look(all_known=False) is None
    bench.says(held=1)
    found = bench.look(all_known=False)
    assert found is not None
    assert found.held == 1


def test_requests_for_an_adapter_are_requests_for_its_deployment() -> None:
    bench = Bench()
    bench.recipe.lora.append(LoraAdapter(name="sql"))
    bench.says(model="sql", held=1)
    assert bench.seen().held == 1
    bench.says(model="stranger", held=1)
    assert bench.seen().held == 0


def test_a_new_leader_goes_on_from_what_was_kept() -> None:
    bench = Bench()
    bench.log.begin(2, {"chat": NOW - timedelta(seconds=300)}, NOW)
    assert bench.log.term == 2
    assert bench.seen().idle_seconds == 300
    assert bench.log.last_uses(NOW) == {"chat": NOW - timedelta(seconds=300)}


def test_a_new_leader_believes_gateways_about_the_time_before_and_never_about_the_future() -> None:
    bench = Bench()
    bench.log.begin(2, {"chat": NOW - timedelta(seconds=300)}, NOW)
    past, future = Timestamp(), Timestamp()
    past.FromSeconds(int(time.time()) - 60)
    future.FromSeconds(int(time.time()) + 3600)
    bench.says(requests=9, last_request_at=past)
    assert 59 <= bench.seen().idle_seconds <= 62
    bench.says("g2", requests=9, last_request_at=future)
    bench.seen()
    bench.now += 10
    assert bench.seen().idle_seconds == 10


def test_a_gateway_that_starts_anew_counts_from_zero_and_that_is_no_request() -> None:
    bench = Bench()
    bench.says("start-1", requests=50)
    bench.seen()
    bench.now += 100
    bench.said.clear()
    bench.says("start-2", requests=0)
    assert bench.seen().idle_seconds == 100


def test_recent_demand_is_that_of_the_last_ten_minutes() -> None:
    bench = Bench()
    for count in (0, 10, 20):
        bench.says(requests=count)
        bench.seen()
        bench.now += 60
    assert bench.seen().requests_per_minute == 2.0
    bench.now += 700
    assert bench.seen().requests_per_minute == 0.0
