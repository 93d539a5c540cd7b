"""One replica over several hosts: equal groups of GPUs on alike hosts, all of them or none.

The agents of all of them know of groups (`feasible.GROUPS`): hosts are upgraded one after the other, an older one gets no part.

Alike means the same model of GPU with the same memory, so that no part waits for a weaker one; the engine's environment is the
recipe's, the same everywhere. Parts are on different hosts and reach each other at the engine address of rank 0: hosts whose
engines listen on loopback are alike only within one machine.

A recipe says how many hosts (``resources.hosts``), or it asks for more GPUs than any single host has: then as few hosts as
have room. A single host that is only busy now is waited for instead: crossing the network costs every token.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import TypeAlias

from studio_coordinator.plan.fleet import Fit, Fleet
from studio_coordinator.plan.gpus import unfit
from studio_coordinator.plan.occupancy import Held, HostView
from studio_coordinator.plan.preempt import Preemption, accepts, terms_for
from studio_coordinator.plan.victims import cheapest_on
from studio_coordinator.plan.wish import ENGINES_ACROSS_HOSTS, Wish

# Cost of the victims, their number, and hosts that others have to leave first.
Price: TypeAlias = tuple[float, ...]


@dataclass(frozen=True)
class Offer:
    """Room for one part on one host, and who has to leave for it."""

    fit: Fit
    leaving: tuple[str, ...] = ()
    victims: tuple[Held, ...] = ()
    price: Price = (0.0, 0.0, 0.0)

    @property
    def order(self) -> tuple[Price, object]:
        """Smallest is best."""
        return self.price, self.fit.order


def parts_of(fleet: Fleet, wish: Wish) -> list[Wish]:
    """What each host of the replica is asked for, fewest hosts first; empty where it goes on one host."""
    if wish.span:
        return [wish] if wish.span > 1 else []
    count = wish.gpus.count
    if wish.engine not in ENGINES_ACROSS_HOSTS or not wish.gpus.exclusive or count <= 1 or _one_host_could(fleet, wish):
        return []
    spans = [hosts for hosts in range(2, count + 1) if count % hosts == 0]
    parts = [replace(wish, gpus=replace(wish.gpus, count=count // hosts, across=True), span=hosts) for hosts in spans]
    return [part for part in parts if _hosts_could(fleet, part)]


def room_now(fleet: Fleet, part: Wish) -> list[Fit]:
    """The best hosts that have room together, in the order of ranks; empty when too few have."""
    return [offer.fit for offer in _best(_offers_now(fleet, part), part.span)]


def room_soon(fleet: Fleet, part: Wish) -> list[Offer]:
    """The same once replicas that retire are gone."""
    return _best([*_offers_now(fleet, part), *_offers_soon(fleet, part)], part.span)


def room_by_force(fleet: Fleet, part: Wish, residency_seconds: float) -> tuple[list[Offer], Preemption] | None:
    """The same once the cheapest victims of lower priority are gone; None when no one may go or it would not help."""
    terms = terms_for(fleet, part, residency_seconds)
    if terms is None:
        return None
    offers = [*_offers_now(fleet, part), *_offers_soon(fleet, part)]
    open_already = {offer.fit.view.ordinal for offer in offers}
    for view in fleet.views:
        way = None if view.ordinal in open_already else cheapest_on(fleet, view, part, terms)
        if way is not None:
            cost, *_ = way.price
            offers.append(Offer(way.fit, tuple(sorted(view.leaving)), way.victims, (cost, len(way.victims), 0.0)))
    chosen = _best(offers, part.span)
    victims = {held.id: held for offer in chosen for held in offer.victims}
    if not victims or not accepts(part, tuple(victims.values())):
        return None
    return chosen, Preemption(chosen[0].fit, tuple(victims[name] for name in sorted(victims)))


def has_room_without(fleet: Fleet, part: Wish, replica_ids: frozenset[str]) -> bool:
    """Whether there is room on all hosts together once these replicas are gone, and those that retire."""
    offers = [*_offers_now(fleet, part), *_offers_soon(fleet, part)]
    open_already = {offer.fit.view.ordinal for offer in offers}
    theirs = {view.ordinal: view for replica_id in replica_ids for view in fleet.hosts_of(replica_id)}
    for ordinal, view in sorted(theirs.items()):
        gone = view.leaving | (replica_ids & view.replicas.keys())
        if ordinal not in open_already and (fit := fleet.fit(view.without(gone), part)) is not None:
            offers.append(Offer(fit))
    return bool(_best(offers, part.span))


def has_room(fleet: Fleet, wish: Wish) -> str:
    """Names of the hosts that would take it now; empty when there are none."""
    if wish.span > 1:
        return ", ".join(fit.view.host.name for fit in room_now(fleet, wish))
    best = fleet.best(wish)
    return best.view.host.name if best is not None else ""


def _best(offers: Iterable[Offer], hosts: int) -> list[Offer]:
    """The cheapest ``hosts`` alike ones; empty when there are not so many."""
    alike: dict[tuple[str, int, str], list[Offer]] = defaultdict(list)
    for offer in offers:
        alike[_alike(offer.fit)].append(offer)
    groups = [sorted(found, key=lambda offer: offer.order)[:hosts] for found in alike.values() if len(found) >= hosts]
    return min(groups, key=_order, default=[])


def _order(group: Sequence[Offer]) -> tuple[Price, list[object]]:
    return tuple(map(sum, zip(*(offer.price for offer in group), strict=True))), [offer.fit.order for offer in group]


def _alike(fit: Fit) -> tuple[str, int, str]:
    """Equal for hosts that can be parts of one replica."""
    machine = fit.view.host.facts.hostname if _on_loopback(fit.view) else ""
    if not fit.chosen.positions:
        return "", 0, machine
    device = fit.view.devices[fit.chosen.positions[0]]
    return device.model, device.memory_bytes, machine


def _on_loopback(view: HostView) -> bool:
    address = view.host.facts.engine_address
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def _offers_now(fleet: Fleet, part: Wish) -> list[Offer]:
    return [Offer(fit) for fit in fleet.fits(part)]


def _offers_soon(fleet: Fleet, part: Wish) -> list[Offer]:
    offers = []
    for view in fleet.with_leaving:
        if fleet.fit(view, part) is None:
            fit = fleet.fit(view.without(set(view.leaving)), part)
            if fit is not None:
                offers.append(Offer(fit, tuple(sorted(view.leaving)), price=(0.0, 0.0, 1.0)))
    return offers


def _one_host_could(fleet: Fleet, wish: Wish) -> bool:
    shapes = {view.devices for view in fleet.views}
    return any(sum(not unfit(device, wish.gpus) for device in devices) >= wish.gpus.count for devices in shapes)


def _hosts_could(fleet: Fleet, part: Wish) -> bool:
    """Whether enough alike hosts have the GPUs, whoever is on them."""
    alike: Counter[tuple[str, int]] = Counter()
    for view in fleet.views:
        kinds = Counter((device.model, device.memory_bytes) for device in view.devices if not unfit(device, part.gpus))
        alike.update(kind for kind, devices in kinds.items() if devices >= part.gpus.count)
    return max(alike.values(), default=0) >= part.span
