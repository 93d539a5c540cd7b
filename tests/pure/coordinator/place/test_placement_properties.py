"""What placement promises, for any small fleet and any wishes."""

from dataclasses import replace

from fakes.random_placement import a_wish, fits_alone, overcommitted, some_hosts
from fakes.world import World
from hypothesis import given, settings
from hypothesis import strategies as st
from studio.v1.host_pb2 import Host
from studio_coordinator.plan.fleet import Fit, Fleet
from studio_coordinator.plan.make_room import make_room
from studio_coordinator.plan.occupancy import Held
from studio_coordinator.plan.place import Awaiting, Placed, Unplaced, place
from studio_coordinator.plan.preempt import propose
from studio_coordinator.plan.wish import GpuNeed, Wish

settings.register_profile("placement", max_examples=200, deadline=None)
FEW = settings.get_profile("placement")
PRIORITIES = (0, 10, 50)


def fill(fleet: Fleet, wishes: list[Wish]) -> dict[str, Wish]:
    placed = {}
    for number, wish in enumerate(wishes):
        best = fleet.best(wish)
        if best is not None:
            fleet.add(Held.at(f"{wish.deployment}-{number}", wish, best.gpu_uuids), best.view.host.id)
            placed[f"{wish.deployment}-{number}"] = wish
    return placed


def plain_best(fleet: Fleet, wish: Wish) -> Fit | None:
    fits = [fit for view in fleet.views if (fit := fleet.fit(view, wish)) is not None]
    return min(fits, key=lambda fit: fit.order, default=None)


def _asked(wish: Wish, fit: Fit) -> tuple[int, int]:
    """Hosts that the wish names come in the order in which it names them."""
    name = fit.view.host.name
    return (wish.hosts.index(name) if name in wish.hosts else 0, fit.view.ordinal)


def answer(fit: Fit | None) -> object:
    return None if fit is None else (fit.view.host.name, fit.gpu_uuids, fit.key)


@FEW
@given(some_hosts(), st.lists(a_wish(), max_size=12), st.data())
def test_the_index_finds_what_a_look_at_every_host_finds(
    hosts: list[Host], wishes: list[Wish], data: st.DataObject
) -> None:
    weights = {host.id: ["hf://a/b"] for host in hosts if data.draw(st.booleans(), label=f"weights on {host.name}")}
    fleet = Fleet.of(hosts, models_on_hosts=weights)
    placed: list[str] = []
    for number, wish in enumerate(wishes):
        best = fleet.best(wish)
        assert answer(best) == answer(plain_best(fleet, wish))
        plainly = [fit for view in fleet.views if (fit := fleet.fit(view, wish)) is not None]
        assert [*map(answer, fleet.fits(wish))] == [*map(answer, sorted(plainly, key=lambda fit: _asked(wish, fit)))]
        if best is not None:
            placed.append(f"r{number}")
            fleet.add(Held.at(f"r{number}", wish, best.gpu_uuids), best.view.host.id)
        if placed and data.draw(st.integers(0, 3), label="remove") == 0:
            fleet.remove(placed.pop(data.draw(st.integers(0, len(placed) - 1), label="which")))


@FEW
@given(some_hosts(), st.lists(a_wish(), max_size=12))
def test_no_gpu_is_promised_beyond_what_it_has(hosts: list[Host], wishes: list[Wish]) -> None:
    fleet = Fleet.of(hosts)
    assert overcommitted(hosts, fleet, fill(fleet, wishes)) == []


@FEW
@given(some_hosts(), a_wish())
def test_what_fits_is_placed_when_it_is_alone_and_what_does_not_has_a_reason_for_every_host(
    hosts: list[Host], wish: Wish
) -> None:
    found = place(Fleet.of(hosts), wish)
    assert isinstance(found, Placed) == fits_alone(hosts, wish)
    if isinstance(found, Unplaced):
        assert sorted(name for group in found.why.groups for name in group.hosts) == [host.name for host in hosts]
        assert all(group.reason for group in found.why.groups)


@FEW
@given(st.integers(1, 5), st.integers(1, 4), st.lists(a_wish(), max_size=10), st.randoms(use_true_random=False))
def test_the_order_of_equal_hosts_does_not_change_how_many_are_placed(
    hosts: int, gpus: int, wishes: list[Wish], random: st.DrawFn
) -> None:
    wishes = [replace(wish, hosts=(), gpus=replace(wish.gpus, pinned=None), labels=()) for wish in wishes]
    first = [simulated.host for simulated in World(hosts, gpus).hosts]
    second = [simulated.host for simulated in World(hosts, gpus).hosts]
    names = [host.name for host in second]
    random.shuffle(names)  # type: ignore[attr-defined] # a random.Random
    for host, name in zip(second, names, strict=True):
        host.name = name
    random.shuffle(second)  # type: ignore[attr-defined] # a random.Random
    assert len(fill(Fleet.of(first), wishes)) == len(fill(Fleet.of(second), wishes))


@FEW
@given(some_hosts(), st.lists(a_wish(PRIORITIES), max_size=12), a_wish((20, 100)))
def test_preemption_never_lowers_the_priority_that_is_served(hosts: list[Host], wishes: list[Wish], wish: Wish) -> None:
    fleet = Fleet.of(hosts)
    placed = fill(fleet, wishes)
    found = propose(fleet, wish)
    if fleet.best(wish) is not None or found is None:
        return
    served = sum(placed[held.id].priority * placed[held.id].gpus.demand for held in found.victims)
    assert served <= wish.priority * wish.gpus.demand
    assert all(held.priority < wish.priority for held in found.victims)
    for held in found.victims:
        fleet.remove(held.id)
    assert fleet.fit(fleet.views[found.fit.view.ordinal], wish) is not None, "there is room once they are gone"
    for held in found.victims:
        fleet.add(held, found.fit.view.host.id)
        assert fleet.fit(fleet.views[found.fit.view.ordinal], wish) is None, "none of them goes for nothing"
        fleet.remove(held.id)


@FEW
@given(some_hosts(), st.lists(a_wish(PRIORITIES), max_size=8), a_wish((100,)))
def test_what_has_just_begun_to_serve_stays(hosts: list[Host], wishes: list[Wish], wish: Wish) -> None:
    fleet = Fleet.of(hosts)
    placed = fill(fleet, wishes)
    for name in placed:
        view = fleet.host_of(name)
        assert view is not None
        held = view.replicas[name]
        fleet.remove(name)
        fleet.add(replace(held, serving=True, served_seconds=599.0), view.host.id)
    assert propose(fleet, wish) is None


@FEW
@given(some_hosts(), st.lists(a_wish(), min_size=1, max_size=10))
def test_making_room_moves_and_never_loses_anyone(hosts: list[Host], wishes: list[Wish]) -> None:
    fleet = Fleet.of(hosts)
    placed = fill(fleet, wishes[:-1])
    before = {name: fleet.host_of(name) for name in placed}
    room = make_room(fleet, "new-1", wishes[-1], placed)
    everyone = placed if room is None else {**placed, "new-1": wishes[-1]}
    assert all(fleet.host_of(name) is not None for name in everyone)
    assert overcommitted(hosts, fleet, everyone) == []
    if room is None:
        assert {name: fleet.host_of(name) for name in placed} == before
    else:
        assert {name for name in placed if fleet.host_of(name) is not before[name]} <= set(room.moved)


@FEW
@given(some_hosts(), st.lists(a_wish(PRIORITIES), max_size=8), a_wish(PRIORITIES))
def test_the_same_input_gives_the_same_answer_and_changes_nothing(
    hosts: list[Host], wishes: list[Wish], wish: Wish
) -> None:
    fleets = [Fleet.of(hosts), Fleet.of(reversed(hosts))]
    for fleet in fleets:
        fill(fleet, wishes)
    version = fleets[0].version
    first, second = (place(fleet, wish) for fleet in fleets)
    assert fleets[0].version == version
    assert type(first) is type(second)
    assert first.reason == second.reason
    if isinstance(first, Placed | Awaiting) and isinstance(second, Placed | Awaiting):
        assert (first.host.name, first.gpu_uuids) == (second.host.name, second.gpu_uuids)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("abcde"), st.integers(0, 3), st.integers(1, 4), st.sampled_from(PRIORITIES)),
        max_size=8,
    )
)
def test_priorities_come_to_rest(changes: list[tuple[str, int, int, int]]) -> None:
    """Whatever is deployed at whatever priority: replicas are not sent round in circles."""
    world = World(hosts=3, gpus=4)
    for name, replicas, gpus, priority in changes:
        world.deploy(name, replicas=replicas, gpus=gpus, priority=priority)
        world.settle()
        world.wait(700)
        world.settle()


def test_a_gpu_need_counts_the_larger_of_share_and_bytes() -> None:
    assert GpuNeed(1, 0.5, memory_bytes=10).share_of(100) == 0.5
    assert GpuNeed(1, 0.1, memory_bytes=40).share_of(100) == 0.4
    assert GpuNeed(1, None, memory_bytes=40).share_of(100) == 1.0
