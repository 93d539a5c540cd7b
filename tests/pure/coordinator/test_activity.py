"""What a replica has been doing, from its engine's counters and an ideal clock."""

from builders import a_deployment, a_moment, a_replica
from google.protobuf.duration_pb2 import Duration
from studio.v1.agent_service_pb2 import ObservationReport, ReplicaObservation, ReportTelemetryRequest
from studio.v1.deployment_pb2 import Deployment
from studio.v1.recipe_pb2 import Recipe
from studio.v1.replica_pb2 import Histogram, Replica, ReplicaFigures
from studio_coordinator.knowledge.activity import USUAL_START_SECONDS, USUAL_WAKING_SECONDS, ActivityLog
from studio_coordinator.plan.ladder import Demand
from studio_coordinator.plan.on_demand import Activity
from studio_coordinator.sessions import Session, SessionRegistry


class Bench:
    """One replica on one host, whose engine says what the test wants."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.sessions = SessionRegistry()
        self.session = Session("h1", "h1", 1)
        self.sessions.opened(self.session)
        self.log = ActivityLog(self.sessions, lambda: self.now)

    def says(self, running: float = 0, ended: int = 0, tokens: float = 0, *, stale: bool = False) -> None:
        figures = ReplicaFigures(running=running, generation_tokens_total=tokens, stale=stale)
        figures.time_to_first_token_seconds.CopyFrom(Histogram(count=ended))
        self.sessions.take_telemetry(
            "h1", ReportTelemetryRequest(session_epoch=1, host_id="h1", replicas={"chat-1": figures})
        )

    def look(self, *, idle_policy: bool = True) -> Activity | None:
        deployment = a_deployment()
        if idle_policy:
            deployment.spec.idle.stop_after.CopyFrom(Duration(seconds=60))
        return self.look_at([deployment])

    def look_at(self, deployments: list[Deployment]) -> Activity | None:
        return self.log.activities([a_replica(host_id="h1")], deployments).get("chat-1")

    def seen(self) -> Activity:
        found = self.look()
        assert found is not None
        return found


def test_idle_is_who_runs_nothing_and_whose_counters_stand_still() -> None:
    bench = Bench()
    bench.says(running=2, tokens=5)
    assert (bench.seen().requests_running, bench.seen().idle_seconds) == (2, 0)
    bench.says(tokens=9)
    bench.now += 30
    assert bench.seen().idle_seconds == 0, "tokens came since"
    bench.now += 30
    assert bench.seen().idle_seconds == 30


def test_a_coordinator_that_begins_takes_everyone_for_busy() -> None:
    bench = Bench()
    bench.says()
    assert bench.seen().idle_seconds == 0


def test_demand_is_counted_over_ten_minutes_and_forgotten_then() -> None:
    bench = Bench()
    for minute in range(11):
        bench.says(ended=6 * minute)
        rate = bench.seen().requests_per_minute
        bench.now += 60
    assert rate == 6
    for _ in range(20):
        bench.now += 60
        bench.seen()
    assert bench.seen().requests_per_minute == 0


def test_an_engine_that_was_started_anew_has_no_negative_demand() -> None:
    bench = Bench()
    bench.says(ended=100)
    bench.seen()
    bench.now += 60
    bench.says(ended=1)
    assert bench.seen().requests_per_minute == 0


def test_only_an_idle_policy_makes_a_replica_come_and_go() -> None:
    bench = Bench()
    bench.says()
    assert bench.seen().on_demand
    without = bench.look(idle_policy=False)
    assert without is not None
    assert not without.on_demand


def test_who_says_nothing_fresh_has_no_activity() -> None:
    bench = Bench()
    assert bench.look() is None
    bench.says(stale=True)
    assert bench.look() is None


def test_how_long_it_takes_to_come_back_is_what_its_start_took() -> None:
    bench = Bench()
    bench.says()
    assert bench.seen().wake_seconds == USUAL_START_SECONDS
    started = ReplicaObservation(
        replica_id="chat-1", state=Replica.STATE_READY, started_at=a_moment(), state_since=a_moment(41)
    )
    bench.session.observed(ObservationReport(replicas=[started]))
    assert bench.seen().wake_seconds == 41


def test_how_long_a_sleeper_takes_to_come_back_is_what_its_last_waking_took() -> None:
    bench = Bench()
    bench.says()
    recipe = Recipe(name="chat")
    recipe.engine.name, recipe.args.sleep_mode = "vllm", True

    def seen(state: "Replica.State.ValueType") -> float:
        row = a_replica(host_id="h1", state=state, engine_ready=state != Replica.STATE_WAKING)
        recipes = {(row.recipe_name, row.recipe_revision): recipe}
        return bench.log.activities([row], [a_deployment()], recipes)["chat-1"].wake_seconds

    assert seen(Replica.STATE_READY) == USUAL_WAKING_SECONDS
    assert seen(Replica.STATE_WAKING) == USUAL_WAKING_SECONDS
    bench.now += 3
    assert seen(Replica.STATE_STARTING) == 3, "it answers, and its route is on the way"
    assert seen(Replica.STATE_READY) == 3


def test_what_the_gateways_say_is_more_exact() -> None:
    bench = Bench()
    bench.says(running=1)
    deployment = a_deployment()
    demands = {"chat": Demand(idle_seconds=70.0, requests_per_minute=2.0)}
    found = bench.log.activities([a_replica(host_id="h1")], [deployment], {}, demands)["chat-1"]
    assert (found.idle_seconds, found.requests_per_minute, found.requests_running) == (70.0, 2.0, 1)


def test_making_way_is_remembered_for_an_hour() -> None:
    bench = Bench()
    bench.says()
    bench.log.made_way(["chat", "other", "chat"])
    assert bench.seen().sent_away == 2
    bench.now += 3601
    assert bench.seen().sent_away == 0
