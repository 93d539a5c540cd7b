"""Which endpoint gets a request: least requests in flight, by weight; what does not answer is left out for a while ★.

1. Endpoints that this request has tried are left out, unless none remains.
2. Ejected ones are left out; but at least half of the endpoints (rounded up, those back soonest) always stay: when everything
   looks broken, the fault is more likely on this side.
3. Weight 0 counts only where all have it: it is how a route says "no new requests".
4. The lowest (in flight + 1) / weight wins; equals take turns.

Ejection follows failures to connect: 5 s, doubled with every further failure up to 60 s, forgotten after one success.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

FIRST_EJECTION_SECONDS = 5.0
LONGEST_EJECTION_SECONDS = 60.0


class Endpoint(Protocol):
    """What picking needs to know of an endpoint."""

    @property
    def replica_id(self) -> str: ...  # noqa: D102 - as named
    @property
    def weight(self) -> float: ...  # noqa: D102 - as named


EndpointT = TypeVar("EndpointT", bound=Endpoint)


@dataclass
class Standing:
    """What this gateway has seen of one endpoint."""

    in_flight: int = 0
    failures: int = 0
    ejected_until: float = 0.0


@dataclass
class Standings:
    """The standing of every endpoint, over all route tables; ``now`` is any clock in seconds that only goes forward."""

    by_replica: dict[str, Standing] = field(default_factory=dict)
    turn: int = 0

    def of(self, replica_id: str) -> Standing:
        """The standing of one endpoint."""
        return self.by_replica.setdefault(replica_id, Standing())

    def connect_failed(self, replica_id: str, now: float) -> float:
        """Eject the endpoint; returns for how many seconds."""
        standing = self.of(replica_id)
        seconds = min(FIRST_EJECTION_SECONDS * 2.0**standing.failures, LONGEST_EJECTION_SECONDS)
        standing.failures = min(standing.failures + 1, 10)
        standing.ejected_until = now + seconds
        return seconds

    def answered(self, replica_id: str) -> None:
        """Forget earlier failures."""
        standing = self.of(replica_id)
        standing.failures = 0
        standing.ejected_until = 0.0

    def forget_all_but(self, replica_ids: Collection[str]) -> None:
        """Drop endpoints that have no route and no request any more."""
        gone = [name for name, at in self.by_replica.items() if name not in replica_ids and at.in_flight == 0]
        for name in gone:
            del self.by_replica[name]

    def pick(self, endpoints: Sequence[EndpointT], tried: Collection[str], now: float) -> EndpointT:
        """One of ``endpoints``, which must not be empty; ``tried`` are replica ids."""
        untried = [one for one in endpoints if one.replica_id not in tried] or list(endpoints)
        usable = self._without_ejected(untried, now)
        weighted = [one for one in usable if one.weight > 0] or usable
        self.turn += 1
        start = self.turn % len(weighted)
        return min(weighted[start:] + weighted[:start], key=self._load)

    def _load(self, endpoint: Endpoint) -> float:
        return (self.of(endpoint.replica_id).in_flight + 1) / (endpoint.weight if endpoint.weight > 0 else 1.0)

    def _without_ejected(self, endpoints: list[EndpointT], now: float) -> list[EndpointT]:
        least = (len(endpoints) + 1) // 2
        healthy = [one for one in endpoints if self.of(one.replica_id).ejected_until <= now]
        if len(healthy) >= least:
            return healthy
        return sorted(endpoints, key=lambda one: self.of(one.replica_id).ejected_until)[:least]
