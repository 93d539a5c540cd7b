"""What each replica has been doing, from the counters of its engine: the input of who makes room for whom.

An engine says how many requests run and how many it has ended. Idle is who runs none and whose counters stand still. Samples
older than `REMEMBERED_SECONDS` are forgotten; a coordinator that has just begun to lead takes everyone for busy at first.
"""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from studio.v1.deployment_pb2 import Deployment
from studio.v1.recipe_pb2 import Recipe
from studio.v1.replica_pb2 import Replica, ReplicaFigures

from studio_coordinator.plan.ladder import Demand, has_policy, sleep_levels
from studio_coordinator.plan.on_demand import Activity
from studio_coordinator.sessions import SessionRegistry

REMEMBERED_SECONDS = 600.0
SAMPLE_SECONDS = 10.0
HOUR_SECONDS = 3600.0
# Where none was measured.
USUAL_START_SECONDS = 60.0
USUAL_WAKING_SECONDS = 5.0
# The process context and the captured graphs, which stay on each GPU while an engine sleeps; rounded up.
SLEEPING_GPU_BYTES = 2 * 2**30


@dataclass
class _Trail:
    """One replica's past."""

    busy_at: float
    counters: tuple[float, float] = (0.0, 0.0)
    # (when, requests ended until then), one for each `SAMPLE_SECONDS`.
    samples: deque[tuple[float, float]] = field(default_factory=deque)

    def take(self, figures: ReplicaFigures, now: float) -> None:
        ended = float(figures.time_to_first_token_seconds.count)
        counters = (ended, figures.generation_tokens_total)
        if figures.running > 0 or figures.waiting > 0 or counters != self.counters:
            self.busy_at = now
        self.counters = counters
        if not self.samples or now - self.samples[-1][0] >= SAMPLE_SECONDS:
            self.samples.append((now, ended))
        while now - self.samples[0][0] > REMEMBERED_SECONDS:
            self.samples.popleft()

    @property
    def requests_per_minute(self) -> float:
        (first, before), (last, after) = self.samples[0], self.samples[-1]
        # An engine that was started anew counts from zero.
        return max(0.0, after - before) * 60 / (last - first) if last > first else 0.0


class ActivityLog:
    """Looked at once a pass; ``clock`` is monotonic, in seconds."""

    def __init__(self, sessions: SessionRegistry, clock: Callable[[], float] = time.monotonic) -> None:
        self._sessions = sessions
        self._clock = clock
        self._trails: dict[str, _Trail] = {}
        self._made_way: deque[tuple[float, str]] = deque()
        # By replica: when its engine was started, and how long that took until it served. Both in seconds.
        self._starts: dict[str, tuple[float, float]] = {}
        # By replica: since when it wakes; and by deployment how long that took last.
        self._waking: dict[str, float] = {}
        self._wakings: dict[str, float] = {}

    def made_way(self, names: Sequence[str]) -> None:
        """Note the deployments of which a replica had to make room just now."""
        self._made_way.extend((self._clock(), name) for name in names)

    def activities(
        self,
        rows: Sequence[Replica],
        deployments: Sequence[Deployment],
        recipes: Mapping[tuple[str, int], Recipe] = MappingProxyType({}),
        demands: Mapping[str, Demand] = MappingProxyType({}),
    ) -> Mapping[str, Activity]:
        """Of every replica whose engine says what it does, by id; what the gateways say (``demands``) is more exact."""
        now = self._clock()
        while self._made_way and now - self._made_way[0][0] > HOUR_SECONDS:
            self._made_way.popleft()
        sent_away = [name for _, name in self._made_way]
        idle_policy = {item.name for item in deployments if has_policy(item)}
        self._note_wakings(rows, now)
        found: dict[str, Activity] = {}
        for row in rows:
            figures = self._sessions.telemetry(row.host_id).replicas.get(row.id)
            if figures is None or figures.stale:
                continue
            trail = self._trails.setdefault(row.id, _Trail(now))
            trail.take(figures, now)
            recipe = recipes.get((row.recipe_name, row.recipe_revision))
            can_sleep = recipe is not None and sleep_levels([recipe]) > 0 and not row.members
            demand = demands.get(row.deployment)
            found[row.id] = Activity(
                on_demand=row.deployment in idle_policy,
                requests_running=int(figures.running + figures.waiting),
                idle_seconds=now - trail.busy_at if demand is None else demand.idle_seconds,
                requests_per_minute=trail.requests_per_minute if demand is None else demand.requests_per_minute,
                wake_seconds=self._seconds_back(row, can_sleep=can_sleep),
                can_sleep=can_sleep,
                sleeping_gpu_bytes=SLEEPING_GPU_BYTES,
                sent_away=sent_away.count(row.deployment),
            )
        for gone in self._trails.keys() - {row.id for row in rows}:
            del self._trails[gone]
            self._starts.pop(gone, None)
            self._waking.pop(gone, None)
        return found

    def start_seconds(self) -> dict[str, float]:
        """How long the last start of each replica took, as far as hosts said so, by id."""
        return {replica_id: seconds for replica_id, (_, seconds) in self._starts.items()}

    def _seconds_back(self, row: Replica, *, can_sleep: bool) -> float:
        """How long it takes until this one serves again, once it is sent away."""
        if can_sleep:
            return self._wakings.get(row.deployment, USUAL_WAKING_SECONDS)
        return self._starts.get(row.id, (0.0, USUAL_START_SECONDS))[1]

    def _note_wakings(self, rows: Sequence[Replica], now: float) -> None:
        """Measure starts, by what hosts say, and wakings, from the one state to the other."""
        for session in self._sessions.all():
            for item in session.replicas.replicas:
                told = item.HasField("started_at") and item.HasField("state_since")
                began = item.started_at.ToMilliseconds() / 1000
                # An engine that slept in between is READY anew: only the first time tells of its start.
                if told and item.state == Replica.STATE_READY and self._starts.get(item.replica_id, (0,))[0] != began:
                    self._starts[item.replica_id] = (began, item.state_since.ToMilliseconds() / 1000 - began)
        for row in rows:
            if row.state == Replica.STATE_WAKING:
                self._waking.setdefault(row.id, now)
            elif row.engine_ready and row.id in self._waking:
                self._wakings[row.deployment] = now - self._waking.pop(row.id)
