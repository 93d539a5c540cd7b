"""What the gateways saw of both revisions since a canary began to be watched.

Gateways report counters that only grow; what they were when this leader first saw the canary is remembered, and taken off. A new
leader begins to watch anew: it waits longer than it has to, and judges by nothing that it did not see.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from studio.v1.deployment_pb2 import Deployment, Rollout
from studio.v1.replica_pb2 import Replica
from studio.v1.route_service_pb2 import EndpointTraffic, TrafficReport

from studio_coordinator.plan.canary import Figures, Watched
from studio_coordinator.plan.rollout import CANARY, Revision, new_revision, old_revision, revision_of


class Source(NamedTuple):
    """Who counted, and what: a gateway that starts anew counts from 0."""

    gateway_instance: str
    replica_id: str
    revision: int


@dataclass
class Tally:
    """Counters; ``within`` by the upper bound of the time to the first token, each with all that were faster."""

    requests: int = 0
    failed: int = 0
    within: Counter[float] = field(default_factory=Counter)
    timed: int = 0

    @classmethod
    def of(cls, traffic: EndpointTraffic) -> "Tally":
        """What a gateway reports of one endpoint."""
        times = traffic.time_to_first_token_seconds
        within = Counter(dict(zip(times.upper_bounds, times.counts, strict=False)))
        return cls(traffic.requests, traffic.failed, within, times.count)

    def add(self, now: "Tally", before: "Tally") -> None:
        """Count in what came between two readings."""
        self.requests += max(0, now.requests - before.requests)
        self.failed += max(0, now.failed - before.failed)
        self.timed += max(0, now.timed - before.timed)
        for bound, count in now.within.items():
            self.within[bound] += max(0, count - before.within[bound])

    @property
    def figures(self) -> Figures:
        """For the plan."""
        return Figures(self.requests, self.failed, self.timed, median(self.within, self.timed))


@dataclass
class _Watch:
    rollout: Rollout
    begun: float
    before: Mapping[Source, Tally]


class CanaryWatch:
    """Remembers when each canary began to be watched, and what had been counted until then."""

    def __init__(self) -> None:
        self._watches: dict[str, _Watch] = {}

    def watched(
        self,
        deployments: Sequence[Deployment],
        replicas: Iterable[Replica],
        reports: Iterable[TrafficReport],
        now: float,
    ) -> dict[str, Watched]:
        """The figures by deployment, of those with a canary; ``now`` by a clock that only goes forward, in seconds."""
        canaries = {item.name: item.rollout for item in deployments if item.rollout.phase == CANARY}
        self._watches = {name: watch for name, watch in self._watches.items() if canaries.get(name) == watch.rollout}
        if not canaries:
            return {}
        counted = {
            Source(report.gateway_instance_id, end.replica_id, end.recipe_revision): Tally.of(end)
            for report in reports
            for end in report.endpoints
        }
        runs = {row.id: row for row in replicas if row.deployment in canaries}
        for name, rollout in canaries.items():
            if name not in self._watches:
                self._watches[name] = _Watch(rollout, now, counted)
        return {name: _since(watch, runs, counted, now, name) for name, watch in self._watches.items()}


def _since(
    watch: _Watch, runs: Mapping[str, Replica], counted: Mapping[Source, Tally], now: float, name: str
) -> Watched:
    tallies: dict[Revision, Tally] = {old_revision(watch.rollout): Tally(), new_revision(watch.rollout): Tally()}
    for source, tally in counted.items():
        row = runs.get(source.replica_id)
        if row is None or row.deployment != name or row.recipe_revision != source.revision:
            continue
        if revision_of(row) in tallies:
            tallies[revision_of(row)].add(tally, watch.before.get(source, Tally()))
    old, new = (tallies[revision(watch.rollout)].figures for revision in (old_revision, new_revision))
    return Watched(now - watch.begun, old, new)


def median(within: Mapping[float, int], count: int) -> float | None:
    """The median of a cumulative histogram, interpolated in its bucket; None without values, at most the last bound."""
    if count == 0 or not within:
        return None
    below, floor = 0, 0.0
    for bound in sorted(bound for bound in within if bound != float("inf")):
        if within[bound] * 2 >= count:
            return floor + (bound - floor) * (count / 2 - below) / (within[bound] - below)
        below, floor = within[bound], bound
    return floor
