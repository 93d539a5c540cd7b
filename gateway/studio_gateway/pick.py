"""Which endpoint gets a request ★.

1. Endpoints that this request has tried are left out, unless none remains.
2. Ejected ones are left out; but at least half of the endpoints (rounded up, those back soonest) always stay: when everything
   looks broken, the fault is more likely on this side.
3. Weight 0 counts only where all have it: it is how a route says "no new requests".
4. Where endpoints of several revisions remain, the revision is chosen first, by its share of the weights, exactly: that is what
   the share of a canary means, at one request a minute as well as under load. Requests of one session stay with one revision.
5. Among the rest the route's strategy decides:

   =============== =====================================================================================
   least_work      the least outstanding work per weight; equals take turns (the default)
   prefix_affinity requests with the same beginning go to the same endpoint, whose cache holds it already
   round_robin     each in turn
   =============== =====================================================================================

   A request that names its session goes to that session's endpoint under each of them.
6. Affinity has a bound: an endpoint with more than 1.25 times the mean work is passed over for the next in its order. What was
   sent elsewhere for that reason stays there, where its cache is now, for as long as that one is below the bound.
"""

import hashlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from studio_gateway.standing import Standings
from studio_gateway.strategies import LEAST_WORK, PREFIX_AFFINITY, ROUND_ROBIN

# Consistent hashing with bounded loads: how far above the mean an endpoint may be and still get what affinity sends it.
LOAD_BOUND = 1.25
# Beginnings and sessions of which it is known where they went last: about 200 bytes each.
REMEMBERED = 32_768


class Endpoint(Protocol):
    """What picking needs to know of an endpoint."""

    @property
    def replica_id(self) -> str: ...  # noqa: D102 - as named
    @property
    def weight(self) -> float: ...  # noqa: D102 - as named
    @property
    def recipe_revision(self) -> int: ...  # noqa: D102 - as named


EndpointT = TypeVar("EndpointT", bound=Endpoint)


@dataclass(slots=True)
class Wish:
    """What a request brings to the choice; it is not changed. ``work`` is in tokens; the keys are empty where it has none."""

    work: float = 1.0
    strategy: str = LEAST_WORK
    # Where it should go again: what its session is called, and how its prompt begins.
    session: bytes = b""
    prefix: bytes = b""


PLAIN = Wish()


@dataclass
class Picker:
    """Chooses by the standings; keeps whose turn it is, and where affinity has sent what."""

    standings: Standings = field(default_factory=Standings)
    turn: int = 0
    remembered: int = REMEMBERED
    # By revision: what it is owed of the requests so far, in requests.
    _owed: dict[tuple[str, int], float] = field(default_factory=dict)
    # By route and key: the replica that it went to last; the longest unused first.
    _went: dict[tuple[str, bytes], str] = field(default_factory=dict)

    def pick(
        self, endpoints: Sequence[EndpointT], tried: Collection[str], now: float, wish: Wish = PLAIN, route: str = ""
    ) -> EndpointT:
        """One of ``endpoints``, which must not be empty; ``tried`` are replica ids, ``route`` is whose shares are kept."""
        if len(endpoints) == 1:
            return endpoints[0]
        untried = [one for one in endpoints if one.replica_id not in tried] or list(endpoints)
        usable = self._without_ejected(untried, now)
        weighted = [one for one in usable if one.weight > 0] or usable
        if len({one.recipe_revision for one in weighted}) > 1:
            weighted = self._of_one_revision(weighted, now, wish, route)
        self.turn += 1
        start = self.turn % len(weighted)
        turned = weighted[start:] + weighted[:start]
        key = wish.session or (wish.prefix if wish.strategy == PREFIX_AFFINITY else b"")
        if key:
            return self._by_affinity(turned, (route, key), now, wish)
        if wish.strategy == ROUND_ROBIN:
            return turned[0]
        return min(turned, key=self._load_with(wish.work, now))

    def _without_ejected(self, endpoints: list[EndpointT], now: float) -> list[EndpointT]:
        standing_of = self.standings.of
        healthy = [one for one in endpoints if standing_of(one.replica_id).ejected_until <= now]
        least = (len(endpoints) + 1) // 2
        if len(healthy) >= least:
            return healthy
        return sorted(endpoints, key=lambda one: standing_of(one.replica_id).ejected_until)[:least]

    def _of_one_revision(self, endpoints: list[EndpointT], now: float, wish: Wish, route: str) -> list[EndpointT]:
        """Those of the revision whose turn it is (smooth weighted round robin), or whose part of the circle a session is on."""
        weights: dict[int, float] = {}
        for one in sorted(endpoints, key=lambda one: one.recipe_revision):
            weights[one.recipe_revision] = weights.get(one.recipe_revision, 0.0) + self._weight(one, now)
        total = sum(weights.values())
        if wish.session:
            point = _number(wish.session, "revision") / 2**64 * total
            chosen = next(iter(weights))
            for revision, weight in weights.items():
                chosen = revision
                point -= weight
                if point < 0:
                    break
        else:
            owed = {
                revision: self._owed.get((route, revision), 0.0) + weight / total
                for revision, weight in weights.items()
            }
            chosen = max(owed, key=owed.__getitem__)
            owed[chosen] -= 1.0
            self._owed = {key: value for key, value in self._owed.items() if key[0] != route}
            self._owed.update({(route, revision): value for revision, value in owed.items()})
        return [one for one in endpoints if one.recipe_revision == chosen]

    def _by_affinity(self, endpoints: list[EndpointT], place: tuple[str, bytes], now: float, wish: Wish) -> EndpointT:
        """Where it went last, else the first in the key's own order of the endpoints (rendezvous hashing) below the bound.

        A replica that comes or goes moves only the keys that it gets or had, and every gateway has the same order.
        """
        key, last = place[1], self._went.pop(place, "")
        load = self._load_with(wish.work, now)
        loads = {one.replica_id: load(one) for one in endpoints}
        bound = LOAD_BOUND * sum(loads.values()) / len(loads)
        in_order = sorted(
            endpoints, key=lambda one: (one.replica_id == last, _number(key, one.replica_id)), reverse=True
        )
        chosen = next((one for one in in_order if loads[one.replica_id] <= bound), in_order[0])
        self._went[place] = chosen.replica_id
        if len(self._went) > self.remembered:
            del self._went[next(iter(self._went))]
        return chosen

    def _load_with(self, work: float, now: float) -> Callable[[Endpoint], float]:
        """The outstanding work per weight that an endpoint would have with ``work`` more."""
        standing_of = self.standings.of
        return lambda one: (standing_of(one.replica_id).work + work) / self._weight(one, now)

    def _weight(self, endpoint: Endpoint, now: float) -> float:
        weight = endpoint.weight if endpoint.weight > 0 else 1.0
        return weight * self.standings.of(endpoint.replica_id).readiness(now)


def _number(key: bytes, name: str) -> int:
    """A number below 2**64 that only ``key`` and ``name`` determine."""
    return int.from_bytes(hashlib.blake2b(name.encode(), key=key[:64], digest_size=8).digest())
