"""A request came for a model that is not up, and nothing is free: who makes room, or why nobody does yet.

Who may go for a wish (`why_it_stays` names the rule that keeps a replica):

1. its deployment has to allow it: one with an idle policy comes and goes by demand, every other stays
2. its priority is not higher than the wish's
3. it has served for at least `residency_seconds`: loading a model to throw it away at once serves nobody
4. it is idle, or the wish has waited for `starvation_seconds`: under steady demand for two models both get their turns

Of all sets that make room the one with the least regret is taken. Regret is the waiting that it brings: seconds until the victim
is back, for each request that its recent demand expects within `HORIZON_SECONDS`, weighted by priority. It grows with each time
beyond `turns` that the deployment had to make room within the last hour, so that every model bears its share.

Victims are put to sleep where the engine can and what a sleeper keeps leaves enough, else stopped. Nothing is done here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from studio_coordinator.plan.fleet import Fit, Fleet
from studio_coordinator.plan.gpus import gib
from studio_coordinator.plan.occupancy import Held, HostView
from studio_coordinator.plan.victims import Price, Terms, cheapest
from studio_coordinator.plan.wish import Wish

# How far ahead recent demand is believed.
HORIZON_SECONDS = 600.0


@dataclass(frozen=True)
class Rules:
    """Against thrashing."""

    residency_seconds: float = 60.0
    # A wish that waits longer than this takes room from a busy replica of no higher priority.
    starvation_seconds: float = 120.0
    # How long without a request makes a replica idle.
    idle_seconds: float = 10.0
    # Times within an hour that a deployment makes room before its regret grows.
    turns: int = 6


@dataclass(frozen=True)
class Activity:
    """What a replica has been doing."""

    # Its deployment has an idle policy.
    on_demand: bool
    requests_running: int = 0
    # Since the last request ended.
    idle_seconds: float = 0.0
    requests_per_minute: float = 0.0
    # How long it takes to come back: waking if it can sleep, else a start.
    wake_seconds: float = 60.0
    can_sleep: bool = False
    # What a sleeper keeps of each GPU, and of the host's memory.
    sleeping_gpu_bytes: int = 0
    sleeping_host_bytes: int = 0
    # Times within the last hour that its deployment had to make room.
    sent_away: int = 0


@dataclass(frozen=True)
class Step:
    """What one victim is to do."""

    replica_id: str
    # Else it is stopped.
    sleep: bool
    reason: str


@dataclass(frozen=True)
class MakeWay:
    """Room on a host once the steps are done."""

    fit: Fit
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Stay:
    """Nobody makes room now; ``reasons`` by replica. Rules 3 and 4 end with time: ask again."""

    reasons: Mapping[str, str]


def make_way(
    fleet: Fleet,
    wish: Wish,
    waited_seconds: float,
    activities: Mapping[str, Activity],
    rules: Rules = Rules(),
) -> MakeWay | Stay:
    """Choose who makes room for ``wish``, whose oldest request has waited so long. Asked when `place` found no room."""
    kept = {
        held.id: why_it_stays(held, wish, waited_seconds, activities, rules)
        for view in fleet.views
        for held in view.replicas.values()
    }

    def regret(victims: Sequence[Held]) -> Price:
        return sum(_regret(held, activities[held.id], rules) for held in victims), len(victims)

    way = cheapest(fleet, wish, Terms(may_go=lambda _, held: not kept[held.id], price=regret))
    if way is None:
        return Stay({name: reason or "it would not be enough" for name, reason in kept.items()})
    view = fleet.views[way.fit.view.ordinal]
    asleep = _may_sleep(view, way.fit, wish, way.victims, activities)
    steps = [
        Step(held.id, held.id in asleep, _told(wish, activities[held.id], waited_seconds, rules))
        for held in way.victims
    ]
    return MakeWay(way.fit, tuple(steps))


def why_it_stays(
    held: Held, wish: Wish, waited_seconds: float, activities: Mapping[str, Activity], rules: Rules
) -> str:
    """The rule that keeps a replica; empty when it may go."""
    activity = activities.get(held.id)
    if activity is None or not activity.on_demand:
        return "its deployment has no idle policy"
    if held.priority > wish.priority:
        return f"priority {held.priority} > {wish.priority}"
    if not held.serving or held.served_seconds < rules.residency_seconds:
        return f"it has served for less than {rules.residency_seconds:.0f} s"
    busy = activity.requests_running > 0 or activity.idle_seconds < rules.idle_seconds
    if busy and waited_seconds < rules.starvation_seconds:
        return f"it is busy, and {wish.deployment} has waited for less than {rules.starvation_seconds:.0f} s"
    return ""


def _regret(held: Held, activity: Activity, rules: Rules) -> float:
    """Seconds of waiting that sending it away is expected to cause, weighted."""
    expected = activity.requests_per_minute / 60 * HORIZON_SECONDS
    # The longer it has been idle, the less its recent demand says.
    expected *= HORIZON_SECONDS / (HORIZON_SECONDS + activity.idle_seconds)
    # Even without demand somebody may ask once; running requests have to finish first or break.
    requests = 1 + expected + 10 * activity.requests_running
    fairness = 1 + max(0, activity.sent_away - rules.turns + 1)
    return activity.wake_seconds * requests * fairness * 2 ** (held.priority / 50)


def _may_sleep(
    view: HostView, fit: Fit, wish: Wish, victims: Sequence[Held], activities: Mapping[str, Activity]
) -> frozenset[str]:
    """Victims that may sleep beside the wish: as many as leave it enough, those that are slowest to start first."""
    chosen: set[str] = set()
    if not wish.gpus.memory_bytes:
        # What is unknown gets everything.
        return frozenset()
    spare = {
        uuid: view.devices[position].memory_bytes - view.devices[position].foreign_bytes - wish.gpus.memory_bytes
        for position, uuid in zip(fit.chosen.positions, fit.gpu_uuids, strict=True)
    }
    facts, figures = view.host.facts, view.host.figures
    host_spare = facts.memory_bytes - max(view.host_memory_reserved, figures.memory_used_bytes) - wish.host_memory_bytes
    for held in sorted(victims, key=lambda held: (-activities[held.id].wake_seconds, held.id)):
        activity = activities[held.id]
        shared = [uuid for uuid in held.gpu_uuids if uuid in spare]
        enough = all(spare[uuid] >= activity.sleeping_gpu_bytes for uuid in shared)
        if activity.can_sleep and enough and host_spare >= activity.sleeping_host_bytes:
            chosen.add(held.id)
            host_spare -= activity.sleeping_host_bytes
            for uuid in shared:
                spare[uuid] -= activity.sleeping_gpu_bytes
    return frozenset(chosen)


def _told(wish: Wish, activity: Activity, waited_seconds: float, rules: Rules) -> str:
    """Why this one, for its event."""
    if activity.requests_running or activity.idle_seconds < rules.idle_seconds:
        why = f"{wish.deployment} has waited for {waited_seconds:.0f} s"
    else:
        why = f"idle for {activity.idle_seconds:.0f} s"
    size = f" of {gib(wish.gpus.memory_bytes)} a GPU" if wish.gpus.memory_bytes else ""
    return f"makes room{size} for {wish.deployment}: {why}, back in about {activity.wake_seconds:.0f} s"
