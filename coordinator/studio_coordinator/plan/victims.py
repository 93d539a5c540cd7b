"""The cheapest set of replicas whose absence makes room. Pre-emption and on-demand differ in who may go, and at what price."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TypeAlias

from studio_coordinator.plan.fleet import Fit, Fleet
from studio_coordinator.plan.occupancy import Held, HostView
from studio_coordinator.plan.wish import Wish

# Up to so many candidates on a host every set of them is looked at; beyond it, sets are thinned out one by one.
EXHAUSTIVE = 8

Price: TypeAlias = tuple[float, ...]
Victims: TypeAlias = tuple[Held, ...]


@dataclass(frozen=True)
class Terms:
    """Who may go, and what that costs. A set costs at least what each part of it costs."""

    may_go: Callable[[HostView, Held], bool]
    price: Callable[[Sequence[Held]], Price]
    # Whether a set as a whole is acceptable.
    acceptable: Callable[[Sequence[Held]], bool] = lambda _: True


@dataclass(frozen=True)
class Way:
    """Room on a host once ``victims`` are gone."""

    fit: Fit
    victims: Victims
    price: Price

    @property
    def order(self) -> tuple[Price, object]:
        """Smallest is best."""
        return self.price, self.fit.order


def cheapest(fleet: Fleet, wish: Wish, terms: Terms) -> Way | None:
    """The cheapest victims on any one host; the host that ranks best among equals. None when no set helps."""
    best: Way | None = None
    for view in fleet.views:
        way = cheapest_on(fleet, view, wish, terms)
        if way is not None and (best is None or way.order < best.order):
            best = way
    return best


def cheapest_on(fleet: Fleet, view: HostView, wish: Wish, terms: Terms) -> Way | None:
    """The cheapest victims on this host; None when no set of them makes room."""
    candidates = [held for held in view.replicas.values() if held.id not in view.leaving and terms.may_go(view, held)]
    if view.closed or not candidates:
        return None
    best: Way | None = None
    for victims in _sets(fleet, view, wish, candidates, terms):
        price = terms.price(victims)
        if best is not None and price > best.price:
            continue
        fit = _without(fleet, view, wish, victims)
        if fit is not None and (best is None or (price, fit.order) < best.order):
            best = Way(fit, victims, price)
    return best


def _sets(fleet: Fleet, view: HostView, wish: Wish, candidates: Sequence[Held], terms: Terms) -> Sequence[Victims]:
    """Sets of victims worth looking at, cheapest first."""
    if len(candidates) <= EXHAUSTIVE:
        sizes = range(1, len(candidates) + 1)
        sets = [chosen for size in sizes for chosen in combinations(candidates, size) if terms.acceptable(chosen)]
        return sorted(sets, key=terms.price)
    chosen = list(candidates)
    if _without(fleet, view, wish, chosen) is None:
        return ()
    # Give back the dearest first, as long as there is still room.
    for held in sorted(candidates, key=lambda held: (terms.price((held,)), held.id), reverse=True):
        fewer = [other for other in chosen if other is not held]
        if _without(fleet, view, wish, fewer) is not None:
            chosen = fewer
    return (tuple(chosen),) if terms.acceptable(chosen) else ()


def _without(fleet: Fleet, view: HostView, wish: Wish, victims: Sequence[Held]) -> Fit | None:
    return fleet.fit(view.without({*view.leaving, *(held.id for held in victims)}), wish)
