"""Two models and room for one: both are asked for all the time, both get their turns, and neither is thrown out at once."""

from dataclasses import dataclass, field

from fakes.world import World, stamp
from google.protobuf.duration_pb2 import Duration
from hypothesis import given, settings
from hypothesis import strategies as st
from studio.v1.replica_pb2 import Replica
from studio_coordinator.plan.ladder import Demand
from studio_coordinator.plan.on_demand import Activity, Rules

RULES = Rules()
HOUR = 3600
# Between two passes; falling asleep, waking and publishing take a few of them.
STEP_SECONDS = 5
SLACK_SECONDS = 8 * STEP_SECONDS
MODELS = ("chat", "code")


@dataclass
class Asked:
    """What the gateways see of one model, step by step."""

    held: int = 0
    waited: float = 0.0
    idle: float = 0.0
    serving_since: float | None = None
    longest_wait: float = 0.0
    # How long it served each time, until it was sent away.
    terms: list[float] = field(default_factory=list)

    def step(self, now: float, requests: int, *, is_up: bool) -> None:
        if is_up and self.serving_since is None:
            self.serving_since = now
        elif not is_up and self.serving_since is not None:
            self.terms.append(now - self.serving_since)
            self.serving_since = None
        if is_up:
            self.held, self.waited = 0, 0.0
        else:
            self.held += requests
            self.waited += STEP_SECONDS if self.held else 0
        self.longest_wait = max(self.longest_wait, self.waited)
        self.idle = 0.0 if requests or self.held else self.idle + STEP_SECONDS

    def demand(self) -> Demand:
        return Demand(held=self.held, waited_seconds=self.waited, idle_seconds=self.idle)


def run(pattern: list[tuple[int, int]], seconds: int, *, can_sleep: bool) -> dict[str, Asked]:
    """A host with one GPU; ``pattern``: requests for both models in each step, over and over."""
    world = World(hosts=1, gpus=1)
    for name in MODELS:
        deployment = world.deploy(name)
        deployment.spec.idle.stop_after.CopyFrom(Duration(seconds=HOUR))
        deployment.created_at.CopyFrom(stamp(world.now))
        world.recipes[name, 1].args.sleep_mode = can_sleep
        world.recipes[name, 1].resources.gpu.memory.bytes = 60 * 2**30
    asked = {name: Asked() for name in MODELS}
    for now in range(0, seconds, STEP_SECONDS):
        requests = dict(zip(MODELS, pattern[now // STEP_SECONDS % len(pattern)], strict=True))
        for name, seen in asked.items():
            seen.step(now, requests[name], is_up=bool(world.endpoints(name)))
        world.demands = {name: seen.demand() for name, seen in asked.items()}
        world.activities = {
            row.id: Activity(
                on_demand=True,
                idle_seconds=asked[row.deployment].idle,
                can_sleep=can_sleep,
                sleeping_gpu_bytes=2 * 2**30,
            )
            for row in world.replicas.values()
            if row.state == Replica.STATE_READY
        }
        world.obey()
        world.step()
        world.wait(STEP_SECONDS)
    return asked


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=40),
    st.booleans(),
)
def test_nobody_is_sent_away_at_once_and_nobody_starves(pattern: list[tuple[int, int]], can_sleep: bool) -> None:
    asked = run(pattern, 900, can_sleep=can_sleep)
    for seen in asked.values():
        assert all(term >= RULES.residency_seconds for term in seen.terms)
        assert seen.longest_wait <= max(RULES.starvation_seconds, RULES.residency_seconds) + SLACK_SECONDS


def test_under_steady_demand_for_both_they_take_turns() -> None:
    asked = run([(1, 1)], 1800, can_sleep=True)
    turns = [len(seen.terms) for seen in asked.values()]
    assert min(turns) >= 1800 // (2 * (RULES.starvation_seconds + SLACK_SECONDS)) - 1
    assert abs(turns[0] - turns[1]) <= 1


def test_an_idle_one_makes_way_as_soon_as_it_has_had_its_time() -> None:
    # The first is asked for once, the second from then on.
    asked = run([(1, 0)] + [(0, 0)] * 20 + [(0, 1)] * 80, 500, can_sleep=True)
    assert asked["code"].longest_wait <= SLACK_SECONDS
