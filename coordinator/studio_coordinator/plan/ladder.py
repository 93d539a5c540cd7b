"""How deep a deployment rests: down the idle ladder while nobody asks for it, up again as soon as somebody does.

::

    AWAKE ──sleep_after──▶ SLEEP ──deep_sleep_after──▶ DEEP_SLEEP ──stop_after──▶ STOPPED
      ▲                      │                             │                        │
      └──────────────────────┴── a request, `studio wake` ─┴────────────────────────┘

Each time counts from the last request, but never from before the model could answer one: what takes minutes to load is not sent
away the moment it is there. Rungs are only ever gone down; rules, the first that applies:

1. stopped by an operator, or being deleted: the ladder has no say
2. requests are held for it: AWAKE
3. requests run, or what the gateways see of it is not known: it stays as it is
4. a replica is on its way up, or it is awake and another revision of it is: it stays as it is
5. the deepest rung whose time is over, of those that its engines can do

A rung that the engines cannot do is passed over. Where the policy names sleep alone and they cannot sleep, its time is when they
are stopped: what the policy is for is that the GPU becomes free.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from studio.v1.deployment_pb2 import Deployment, IdlePolicy, Rollout
from studio.v1.recipe_pb2 import Recipe
from studio.v1.replica_pb2 import Replica

Rest: TypeAlias = Deployment.Rest.ValueType

# Engines that can sleep where the recipe sets `args.sleep_mode`, and how deep: to drop SGLang's weights frees nothing more, since
# its copy in the host's memory is made at the start.
SLEEP_LEVELS = {"vllm": 2, "sglang": 1, "demo": 2}
LEVELS = {Deployment.REST_SLEEP: 1, Deployment.REST_DEEP_SLEEP: 2}
ON_ITS_WAY_UP = frozenset({Replica.STATE_PREPARING, Replica.STATE_STARTING, Replica.STATE_WAKING})
# Rollouts that nothing but an operator moves on.
STANDING = frozenset({Rollout.PHASE_PAUSED, Rollout.PHASE_ROLLED_BACK})
NAMES = {
    Deployment.REST_SLEEP: "sleeps",
    Deployment.REST_DEEP_SLEEP: "sleeps deeply",
    Deployment.REST_STOPPED: "is stopped",
}


@dataclass(frozen=True)
class Demand:
    """What all gateways together say of one deployment."""

    # Requests that wait until it is up; below, for how long the first of them has.
    held: int = 0
    # When that was last said.
    told_seconds_ago: float = 0.0
    waited_seconds: float = 0.0
    in_flight: int = 0
    # Since its last request, as far as is known; 0 while one runs or waits.
    idle_seconds: float = 0.0
    requests_per_minute: float = 0.0


@dataclass(frozen=True)
class RestChange:
    """A deployment's rest is to be stored."""

    deployment: str
    rest: Rest
    reason: str
    # What its `rest_since` was when this was decided; None: it had none.
    was_since: Timestamp | None

    @classmethod
    def of(cls, deployment: Deployment, rest: Rest, reason: str) -> "RestChange":
        """The change of ``deployment`` as it is stored now."""
        was = deployment.rest_since if deployment.HasField("rest_since") else None
        return cls(deployment.name, rest, reason, was)

    def applied(self, deployment: Deployment, now: Timestamp) -> Deployment:
        """A copy of ``deployment`` that rests so since ``now``."""
        changed = Deployment()
        changed.CopyFrom(deployment)
        changed.rest, changed.rest_reason = self.rest, self.reason
        changed.rest_since.CopyFrom(now)
        return changed


def is_on_ladder(deployment: Deployment) -> bool:
    """Whether it comes and goes by demand: it has a policy, or an operator sent it to rest once."""
    return has_policy(deployment) or deployment.rest != Deployment.REST_UNSPECIFIED


def has_policy(deployment: Deployment) -> bool:
    """Whether time alone sends it down the ladder."""
    idle = deployment.spec.idle
    return any(idle.HasField(name) for name in ("sleep_after", "deep_sleep_after", "stop_after"))


def is_at_rest(deployment: Deployment) -> bool:
    """Whether a request would have to wake it."""
    return deployment.rest > Deployment.REST_AWAKE


def sleep_levels(recipes: Iterable[Recipe]) -> int:
    """The deepest sleep that engines of all these recipes can do; 0: none."""
    return min((_levels(recipe) for recipe in recipes), default=0)


def _levels(recipe: Recipe) -> int:
    # A replica over several hosts is stopped: its parts would have to fall asleep and wake together.
    if not recipe.args.sleep_mode or recipe.resources.hosts > 1:
        return 0
    return SLEEP_LEVELS.get(recipe.engine.name, 0)


def next_rest(
    deployment: Deployment, replicas: Sequence[Replica], levels: int, demand: Demand | None, now: datetime
) -> RestChange | None:
    """How the deployment's rest changes now; None where it does not. ``demand`` is None where the gateways are not known.

    ``levels``: the deepest sleep that all of its engines can do.
    """
    if deployment.stopped or not is_on_ladder(deployment):
        return None
    if demand is not None and demand.held:
        return _awake(deployment, demand, now)
    if deployment.rest == Deployment.REST_UNSPECIFIED and _wants_none(deployment):
        return RestChange.of(deployment, Deployment.REST_STOPPED, "it wants no replica until somebody asks for it")
    if demand is None or demand.in_flight or _is_on_the_move(deployment, replicas):
        return None
    idle = min([demand.idle_seconds, *_up_for(deployment, replicas, now)])
    passed = [(after, rest) for after, rest in rungs(deployment.spec.idle, levels) if after <= idle]
    after, rest = max(passed, key=lambda rung: rung[1], default=(0.0, Deployment.REST_UNSPECIFIED))
    if rest <= max(deployment.rest, Deployment.REST_AWAKE):
        return None
    return RestChange.of(deployment, rest, f"it {NAMES[rest]}: nobody asked for it for {_span(after)}")


def _awake(deployment: Deployment, demand: Demand, now: datetime) -> RestChange | None:
    if deployment.rest == Deployment.REST_AWAKE:
        return None
    if deployment.HasField("rest_since") and _since(deployment.rest_since, now) < demand.told_seconds_ago:
        # They may have been sent before it was put to rest: whoever waits is told of again at once.
        return None
    waiting = "a request waits" if demand.held == 1 else f"{demand.held} requests wait"
    return RestChange.of(deployment, Deployment.REST_AWAKE, f"{waiting} for it")


def rungs(idle: IdlePolicy, levels: int) -> list[tuple[float, Rest]]:
    """The rungs that engines which can sleep so deep have, with their times in seconds."""
    named = list(_named(idle))
    if not levels and named and not any(rest == Deployment.REST_STOPPED for _, rest in named):
        return [(min(after for after, _ in named), Deployment.REST_STOPPED)]
    possible = [(after, rest) for after, rest in named if LEVELS.get(rest, 0) <= levels]
    if levels and not any(rest == Deployment.REST_SLEEP for _, rest in possible):
        # Of sleeps only the deep one is named, and they can do the light one alone.
        too_deep = [after for after, rest in named if LEVELS.get(rest, 0) > levels]
        possible += [(after, Deployment.REST_SLEEP) for after in too_deep]
    return possible


def _named(idle: IdlePolicy) -> Iterator[tuple[float, Rest]]:
    if idle.HasField("sleep_after"):
        yield _seconds(idle.sleep_after), Deployment.REST_SLEEP
    if idle.HasField("deep_sleep_after"):
        yield _seconds(idle.deep_sleep_after), Deployment.REST_DEEP_SLEEP
    if idle.HasField("stop_after"):
        yield _seconds(idle.stop_after), Deployment.REST_STOPPED


def _is_on_the_move(deployment: Deployment, replicas: Sequence[Replica]) -> bool:
    if any(row.state in ON_ITS_WAY_UP for row in replicas):
        return True
    target = deployment.spec.recipe, deployment.target_revision
    is_other = any((row.recipe_name, row.recipe_revision) != target for row in replicas)
    # While it rests no rollout goes on: another revision that is named counts from when it is awake again.
    return is_other and not is_at_rest(deployment) and deployment.rollout.phase not in STANDING


def _up_for(deployment: Deployment, replicas: Sequence[Replica], now: datetime) -> Iterator[float]:
    """Seconds since it was woken, and since each replica that serves began to."""
    since = [row.state_since for row in replicas if row.state == Replica.STATE_READY]
    if deployment.rest == Deployment.REST_AWAKE:
        since.append(deployment.rest_since)
    for at in since:
        yield _since(at, now)


def _since(at: Timestamp, now: datetime) -> float:
    return now.timestamp() - at.seconds - at.nanos / 1e9


def _wants_none(deployment: Deployment) -> bool:
    replicas = deployment.spec.replicas
    return replicas.HasField("min") and replicas.min == 0


def _seconds(duration: Duration) -> float:
    return duration.seconds + duration.nanos / 1e9


def _span(seconds: float) -> str:
    return f"{seconds:g} s" if seconds < 120 else f"{seconds / 60:g} min"  # noqa: PLR2004 - short times read better in seconds
