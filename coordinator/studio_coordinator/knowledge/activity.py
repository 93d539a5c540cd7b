"""What each replica has been doing, from the counters of its engine: the input of who makes room for whom.

An engine says how many requests run and how many it has ended. Idle is who runs none and whose counters stand still. Samples
older than `REMEMBERED_SECONDS` are forgotten; a coordinator that has just begun to lead takes everyone for busy at first.
"""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from studio.v1.deployment_pb2 import Deployment
from studio.v1.replica_pb2 import Replica, ReplicaFigures

from studio_coordinator.plan.on_demand import Activity
from studio_coordinator.sessions import SessionRegistry

REMEMBERED_SECONDS = 600.0
SAMPLE_SECONDS = 10.0
HOUR_SECONDS = 3600.0
# Where no start was measured.
USUAL_WAKE_SECONDS = 60.0


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

    def made_way(self, names: Sequence[str]) -> None:
        """Note the deployments of which a replica had to make room just now."""
        self._made_way.extend((self._clock(), name) for name in names)

    def activities(self, rows: Sequence[Replica], deployments: Sequence[Deployment]) -> Mapping[str, Activity]:
        """Of every replica whose engine says what it does, by id."""
        now = self._clock()
        while self._made_way and now - self._made_way[0][0] > HOUR_SECONDS:
            self._made_way.popleft()
        sent_away = [name for _, name in self._made_way]
        idle_policy = {item.name for item in deployments if _comes_and_goes(item)}
        starts = self.start_seconds()
        found: dict[str, Activity] = {}
        for row in rows:
            figures = self._sessions.telemetry(row.host_id).replicas.get(row.id)
            if figures is None or figures.stale:
                continue
            trail = self._trails.setdefault(row.id, _Trail(now))
            trail.take(figures, now)
            found[row.id] = Activity(
                on_demand=row.deployment in idle_policy,
                requests_running=int(figures.running + figures.waiting),
                idle_seconds=now - trail.busy_at,
                requests_per_minute=trail.requests_per_minute,
                wake_seconds=starts.get(row.id, USUAL_WAKE_SECONDS),
                sent_away=sent_away.count(row.deployment),
            )
        for gone in self._trails.keys() - {row.id for row in rows}:
            del self._trails[gone]
        return found

    def start_seconds(self) -> dict[str, float]:
        """How long the last start of each replica that serves took, where its host said so."""
        return {
            item.replica_id: (item.state_since.ToMilliseconds() - item.started_at.ToMilliseconds()) / 1000
            for session in self._sessions.all()
            for item in session.replicas.replicas
            if item.state == Replica.STATE_READY and item.HasField("started_at") and item.HasField("state_since")
        }


def _comes_and_goes(deployment: Deployment) -> bool:
    idle = deployment.spec.idle
    return idle.HasField("sleep_after") or idle.HasField("stop_after")
