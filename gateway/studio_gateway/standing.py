"""What this gateway has seen of each endpoint: what it has outstanding there, and how well it answers ★.

Ejection follows a failure to connect at once, and other failures when five come in a row: 5 s, doubled with every further
failure up to 60 s, forgotten after one success. How many may be ejected at a time is for ``pick`` to say.
"""

from collections.abc import Collection
from dataclasses import dataclass, field

FIRST_EJECTION_SECONDS = 5.0
LONGEST_EJECTION_SECONDS = 60.0
FAILURES_IN_A_ROW = 5
# A fresh replica's caches are empty and its kernels not yet compiled: it gets up to its share over this time.
SLOW_START_SECONDS = 30.0
SLOW_START_SHARE = 0.1


@dataclass(slots=True)
class Standing:
    """One endpoint. Work is in tokens: those of prompts, and a guess of those to come."""

    in_flight: int = 0
    work: float = 0.0
    # Failures to answer since the last success; and how often it was ejected since then.
    failures: int = 0
    ejections: int = 0
    ejected_until: float = 0.0
    # When it first had a route, where others were there before it.
    fresh_since: float | None = None

    def began(self, work: float) -> None:
        """A request was sent."""
        self.in_flight += 1
        self.work += work

    def ended(self, work: float) -> None:
        """A request has ended, in whatever way."""
        self.in_flight -= 1
        self.work = self.work - work if self.in_flight else 0.0

    def readiness(self, now: float) -> float:
        """The share of its weight that the endpoint may have: less than 1 while it is fresh."""
        if self.fresh_since is None:
            return 1.0
        share = (now - self.fresh_since) / SLOW_START_SECONDS
        return min(1.0, max(SLOW_START_SHARE, share))


@dataclass
class Standings:
    """All endpoints, over all route tables; ``now`` is any clock in seconds that only goes forward."""

    by_replica: dict[str, Standing] = field(default_factory=dict)

    def of(self, replica_id: str) -> Standing:
        """The standing of one endpoint."""
        standing = self.by_replica.get(replica_id)
        if standing is None:
            standing = self.by_replica[replica_id] = Standing()
        return standing

    def connect_failed(self, replica_id: str, now: float) -> float:
        """Nobody listens there: eject it; returns for how many seconds."""
        return self._eject(self.of(replica_id), now)

    def answer_failed(self, replica_id: str, now: float) -> float:
        """It broke off, stalled or failed; returns for how many seconds it is ejected, 0 where it is not."""
        standing = self.of(replica_id)
        standing.failures += 1
        return self._eject(standing, now) if standing.failures >= FAILURES_IN_A_ROW else 0.0

    def answered(self, replica_id: str) -> None:
        """Forget earlier failures."""
        standing = self.of(replica_id)
        if standing.failures or standing.ejections:
            standing.failures = standing.ejections = 0
            standing.ejected_until = 0.0

    def put_routes(self, models: Collection[Collection[str]], now: float) -> None:
        """Routes have come into force; ``models``: the replica ids of each. New replicas beside known ones are fresh.

        Endpoints that have no route and no request any more are forgotten.
        """
        known = set(self.by_replica)
        for replica_ids in models:
            has_others = not known.isdisjoint(replica_ids)
            for replica_id in replica_ids:
                if replica_id not in known:
                    self.of(replica_id).fresh_since = now if has_others else None
        self.forget_all_but({replica_id for replica_ids in models for replica_id in replica_ids})

    def forget_all_but(self, replica_ids: Collection[str]) -> None:
        """Drop endpoints that have no route and no request any more."""
        gone = [name for name, at in self.by_replica.items() if name not in replica_ids and at.in_flight == 0]
        for name in gone:
            del self.by_replica[name]

    def _eject(self, standing: Standing, now: float) -> float:
        seconds = min(FIRST_EJECTION_SECONDS * 2.0**standing.ejections, LONGEST_EJECTION_SECONDS)
        standing.ejections = min(standing.ejections + 1, 10)
        standing.failures = 0
        standing.ejected_until = now + seconds
        return seconds
