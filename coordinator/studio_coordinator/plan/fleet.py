"""The whole fleet, indexed so that finding the best host costs the number of *kinds* of hosts, not of hosts.

Hosts whose GPUs are alike and taken alike give the same answer to every need. They share a bucket, a list in the order of
names, and the answer is kept by bucket and need. What differs from host to host is asked of single hosts: labels, memory and
disk as a filter while a bucket is walked, and hosts that have the deployment or the weights already one by one, since they rank
differently.

Built once per pass; placing moves one host from bucket to bucket. `best` is defined by `fit` over all hosts; the index only finds
the same answer sooner (a property test compares the two).
"""

from bisect import bisect_left, insort
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import NamedTuple

from studio.v1.deployment_pb2 import Deployment
from studio.v1.host_pb2 import Host
from studio.v1.recipe_pb2 import Recipe
from studio.v1.replica_pb2 import Replica

from studio_coordinator.plan.feasible import host_refusal
from studio_coordinator.plan.gpus import Device
from studio_coordinator.plan.members import parts_held
from studio_coordinator.plan.occupancy import Held, HostView
from studio_coordinator.plan.pick import Pick, pick
from studio_coordinator.plan.rank import Key, rank
from studio_coordinator.plan.shape import Shape
from studio_coordinator.plan.sizing import UNKNOWN, Sizing
from studio_coordinator.plan.wish import GpuNeed, Wish, gpu_need, host_memory


class Kind(NamedTuple):
    """What alike hosts have in common: equal devices, equally taken."""

    devices: int
    taken: tuple[float, ...]
    # GPUs that no replica is on.
    free: int


@dataclass(frozen=True)
class Fit:
    """A host that has room, and how good it is."""

    view: HostView
    chosen: Pick
    key: Key

    @property
    def order(self) -> tuple[Key, int]:
        """Smallest is best."""
        return self.key, self.view.ordinal

    @property
    def gpu_uuids(self) -> tuple[str, ...]:
        """The chosen GPUs."""
        return tuple(self.view.gpus[position].uuid for position in self.chosen.positions)


@dataclass
class Fleet:
    """Hosts in the order of their names, and who is on them."""

    views: Sequence[HostView]
    # Deployment to those that must not meet it; both ways.
    rivals: Mapping[str, frozenset[str]] = field(default_factory=dict)
    # Weights to the ordinals of the hosts that have them.
    weights: Mapping[str, frozenset[int]] = field(default_factory=dict)
    # Counts changes: equal numbers mean that nothing moved in between.
    version: int = 0
    priorities: Counter[int] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._by_host_id = {view.host.id: view for view in self.views}
        self._by_host_name = {view.host.name: view for view in self.views}
        # A replica over several hosts is on each of them.
        self._by_replica: dict[str, list[HostView]] = {}
        self._by_deployment: dict[str, set[int]] = defaultdict(set)
        self._leaving: set[int] = set()
        shapes: dict[tuple[Device, ...], int] = {}
        self._shapes = [shapes.setdefault(view.devices, len(shapes)) for view in self.views]
        self._buckets: dict[Kind, list[int]] = defaultdict(list)
        self._picks: dict[GpuNeed, dict[Kind, Pick | None]] = defaultdict(dict)
        for view in self.views:
            if view.devices and not view.closed:
                self._buckets[self._kind(view)].append(view.ordinal)

    @classmethod
    def of(
        cls,
        hosts: Iterable[Host],
        replicas: Iterable[Replica] = (),
        deployments: Iterable[Deployment] = (),
        recipes: Mapping[tuple[str, int], Recipe] | None = None,
        models_on_hosts: Mapping[str, Collection[str]] | None = None,
        now: datetime | None = None,
        sizes: Mapping[tuple[str, int], Sizing] | None = None,
        shapes: Mapping[str, Shape] | None = None,
    ) -> "Fleet":
        """Count every replica that has a host: it holds its GPUs until its row is gone.

        ``models_on_hosts``: host id to the names of the weights there (`wish.weights_key`); ``sizes`` by recipe and revision;
        ``shapes`` by host id, of those hosts that were looked at before.
        """
        known = {deployment.name: deployment for deployment in deployments}
        rows = sorted(replicas, key=lambda replica: replica.id)
        # What is about to wake has room made for it as it is then.
        rest = {item.name for item in known.values() if item.rest > Deployment.REST_AWAKE}
        asleep = {row.id for row in rows if row.state == Replica.STATE_SLEEPING and row.deployment in rest}
        by_name = sorted(hosts, key=lambda host: host.name)
        views = [HostView(number, host, _shape(host, asleep, shapes or {})) for number, host in enumerate(by_name)]
        ordinals: dict[str, set[int]] = defaultdict(set)
        for view in views:
            view.weights = frozenset((models_on_hosts or {}).get(view.host.id, ()))
            for name in view.weights:
                ordinals[name].add(view.ordinal)
        weights = {name: frozenset(numbers) for name, numbers in ordinals.items()}
        fleet = cls(views, _rivals(known.values()), weights)
        at = now.timestamp() if now is not None else 0.0
        for replica in rows:
            revision = replica.recipe_name, replica.recipe_revision
            recipe, sizing = (recipes or {}).get(revision), (sizes or {}).get(revision, UNKNOWN)
            owner = known.get(replica.deployment)
            need = gpu_need(recipe, sizing) if recipe is not None else None
            memory = host_memory(recipe, sizing) if recipe is not None else 0
            held = Held.of(replica, need, owner.spec.priority if owner is not None else 0, at, memory)
            for host_id, gpu_uuids in parts_held(replica):
                if host_id in fleet._by_host_id:
                    alone = held.span == 1 or not held.gpu_uuids
                    fleet.add(held if alone else replace(held, gpu_uuids=gpu_uuids), host_id)
            if replica.retiring or (replica.sleep_level and replica.state == Replica.STATE_DRAINING):
                fleet.leave(replica.id)
        return fleet

    def add(self, held: Held, host_id: str) -> None:
        """Count a replica in on a host."""
        view = self._by_host_id[host_id]
        before = self._kind(view)
        view.add(held)
        self._move(view, before)
        self._by_replica.setdefault(held.id, []).append(view)
        self._by_deployment[held.deployment].add(view.ordinal)
        self.priorities[held.priority] += 1

    def remove(self, replica_id: str) -> None:
        """Count a replica out, on every host that it is on."""
        for view in self._by_replica.pop(replica_id):
            self._remove_from(view, replica_id)

    def _remove_from(self, view: HostView, replica_id: str) -> None:
        held = view.replicas[replica_id]
        before = self._kind(view)
        view.remove(replica_id)
        self._move(view, before)
        if held.deployment not in view.deployments:
            self._by_deployment[held.deployment].discard(view.ordinal)
        if not view.leaving:
            self._leaving.discard(view.ordinal)
        self.priorities[held.priority] -= 1
        self.priorities += Counter()

    def leave(self, replica_id: str) -> None:
        """Mark a replica as one that retires; one that has no host holds nothing."""
        for view in self._by_replica.get(replica_id, ()):
            view.leaving.add(replica_id)
            self._leaving.add(view.ordinal)
            self.version += 1

    def host_of(self, replica_id: str) -> HostView | None:
        """The host on which a replica is; of one over several hosts, that of rank 0."""
        return next(iter(self.hosts_of(replica_id)), None)

    def hosts_of(self, replica_id: str) -> Sequence[HostView]:
        """The hosts on which a replica is, in the order of ranks."""
        return self._by_replica.get(replica_id, ())

    @property
    def with_leaving(self) -> list[HostView]:
        """Hosts that replicas are about to leave."""
        return [self.views[ordinal] for ordinal in sorted(self._leaving)]

    def rivals_of(self, wish: Wish) -> frozenset[str]:
        """Deployments that must not meet the wish's, whoever of the two said so."""
        return wish.apart | self.rivals.get(wish.deployment, frozenset())

    def fit(self, view: HostView, wish: Wish) -> Fit | None:
        """Whether one host has room, and how good it is: the definition that the index must agree with."""
        if host_refusal(view, wish, self.rivals_of(wish)):
            return None
        chosen = pick(view.devices, view.taken, wish.gpus, view.allowed(wish.gpus))
        return None if chosen is None else Fit(view, chosen, self._key(view, wish, chosen))

    def fits(self, wish: Wish) -> Iterator[Fit]:
        """Every host that has room, in the order of names: what `fit` says of each, with alike hosts looked at once."""
        singly = wish.gpus.pinned is not None or wish.gpus.count == 0
        rivals = self.rivals_of(wish)
        for view in self._asked_singly(wish):
            if singly:
                fit = self.fit(view, wish)
            else:
                chosen = self._pick(self._kind(view), wish.gpus)
                refused = chosen is None or host_refusal(view, wish, rivals)
                fit = None if chosen is None or refused else Fit(view, chosen, self._key(view, wish, chosen))
            if fit is not None:
                yield fit

    def best(self, wish: Wish) -> Fit | None:
        """The best host that has room; None when none has."""
        if wish.hosts or wish.gpus.pinned is not None or wish.gpus.count == 0:
            fits = (self.fit(view, wish) for view in self._asked_singly(wish))
            return min((fit for fit in fits if fit is not None), key=lambda fit: fit.order, default=None)
        rivals = self.rivals_of(wish)
        holding = self._by_deployment.get(wish.deployment, set())
        with_weights = self.weights.get(wish.weights, frozenset())
        best = self._best_alike(wish, rivals, holding, with_weights)
        # Spread over hosts, one that has the deployment already never beats one that has not.
        single = with_weights - holding if best is not None and not wish.pack else with_weights | holding
        for ordinal in single:
            view = self.views[ordinal]
            chosen = self._pick(self._kind(view), wish.gpus)
            if chosen is None:
                continue
            found = Fit(view, chosen, self._key(view, wish, chosen))
            if (best is None or found.order < best.order) and not host_refusal(view, wish, rivals):
                best = found
        return best

    def _asked_singly(self, wish: Wish) -> Iterator[HostView]:
        if wish.hosts:
            return (self._by_host_name[name] for name in wish.hosts if name in self._by_host_name)
        return iter(self.views)

    def _best_alike(
        self, wish: Wish, rivals: Collection[str], holding: Collection[int], with_weights: Collection[int]
    ) -> Fit | None:
        """The best among the hosts that have neither the deployment nor its weights."""
        best: Fit | None = None
        need = wish.gpus
        least_free = need.count if need.exclusive else 0
        for kind, ordinals in self._buckets.items():
            # Most of a full fleet is out of the question at a glance.
            chosen = self._pick(kind, need) if kind.free >= least_free else None
            if chosen is None:
                continue
            key = rank(wish, chosen, same=0, weights_absent=bool(wish.weights), has_gpus=True, replicas=0)
            if best is not None and key > best.key:
                continue
            for ordinal in ordinals:
                if best is not None and (best.key, best.view.ordinal) < (key, ordinal):
                    break
                if ordinal in holding or ordinal in with_weights:
                    continue
                if not host_refusal(self.views[ordinal], wish, rivals):
                    best = Fit(self.views[ordinal], chosen, key)
                    break
        return best

    def _key(self, view: HostView, wish: Wish, chosen: Pick) -> Key:
        absent = bool(wish.weights) and view.ordinal not in self.weights.get(wish.weights, frozenset())
        return rank(
            wish,
            chosen,
            same=view.deployments.get(wish.deployment, 0),
            weights_absent=absent,
            has_gpus=bool(view.devices),
            replicas=len(view.replicas),
        )

    def _pick(self, kind: Kind, need: GpuNeed) -> Pick | None:
        picks = self._picks[need]
        try:
            return picks[kind]
        except KeyError:
            ordinals = self._buckets.get(kind)
            if not ordinals:
                # A closed host, or one without GPUs.
                return None
            view = self.views[ordinals[0]]
            found = picks[kind] = pick(view.devices, view.taken, need, None)
            return found

    def _kind(self, view: HostView) -> Kind:
        return Kind(self._shapes[view.ordinal], view.taken, view.taken.count(0.0))

    def _move(self, view: HostView, before: Kind) -> None:
        self.version += 1
        after = self._kind(view)
        if after == before or view.closed or not view.devices:
            return
        ordinals = self._buckets[before]
        del ordinals[bisect_left(ordinals, view.ordinal)]
        if not ordinals:
            del self._buckets[before]
        insort(self._buckets[after], view.ordinal)


def _shape(host: Host, asleep: Collection[str], known: Mapping[str, Shape]) -> Shape:
    shape = known.get(host.id)
    return shape if shape is not None and shape.serves_for(host, asleep) else Shape.of(host, asleep)


def _rivals(deployments: Iterable[Deployment]) -> Mapping[str, frozenset[str]]:
    both_ways: dict[str, set[str]] = defaultdict(set)
    for deployment in deployments:
        for name in deployment.spec.placement.anti_affinity:
            if name != deployment.name:
                both_ways[name].add(deployment.name)
                both_ways[deployment.name].add(name)
    return {name: frozenset(names) for name, names in both_ways.items()}
