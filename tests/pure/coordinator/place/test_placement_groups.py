"""What placement promises to a replica over several hosts, for any small fleet and whoever is there already."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from builders import a_gpu, a_host
from fakes.random_placement import a_wish, host_fits, overcommitted, some_hosts
from hypothesis import given, settings
from hypothesis import strategies as st
from studio.v1.host_pb2 import Host
from studio_coordinator.plan.drain_first import room_makers
from studio_coordinator.plan.fleet import Fleet
from studio_coordinator.plan.occupancy import Held
from studio_coordinator.plan.place import Awaiting, Placed, Unplaced, place
from studio_coordinator.plan.wish import GpuNeed, Wish

FEW = settings(max_examples=100, deadline=None)
PRIORITIES = (0, 10, 50)


@st.composite
def a_group(draw: st.DrawFn, priorities: Sequence[int] = (0,)) -> Wish:
    wish = draw(a_wish(priorities))
    need = replace(wish.gpus, share=None, pinned=None, count=draw(st.integers(0, 3)))
    return replace(wish, gpus=need, engine="vllm", span=draw(st.integers(2, 3)), host_memory_bytes=0)


def wishes(priorities: Sequence[int] = (0,)) -> st.SearchStrategy[list[Wish]]:
    return st.lists(st.one_of(a_wish(priorities), a_group(priorities)), max_size=10)


def hold(fleet: Fleet, name: str, wish: Wish, found: Placed | Awaiting) -> None:
    for host, gpu_uuids in found.where:
        fleet.add(Held.at(name, replace(wish, span=len(found.where)), gpu_uuids), host.id)


def fill(fleet: Fleet, wanted: Sequence[Wish]) -> dict[str, Wish]:
    placed = {}
    for number, wish in enumerate(wanted):
        # Nobody is sent away for a priority that is nobody's.
        found = place(fleet, replace(wish, priority=-1))
        if isinstance(found, Placed):
            name = f"{wish.deployment}-{number}"
            hold(fleet, name, wish, found)
            placed[name] = wish
    return placed


def is_whole(found: Placed | Awaiting, wish: Wish) -> bool:
    """Parts on as many different hosts as wished, with alike GPUs."""
    kinds = {(gpu.model, gpu.memory_bytes) for host, uuids in found.where for gpu in host.gpus if gpu.uuid in uuids}
    hosts = {host.id for host, _ in found.where}
    counts = {len(uuids) for _, uuids in found.where}
    able = all("groups" in host.facts.features for host, _ in found.where)
    return able and len(hosts) == len(found.where) == wish.span and counts == {wish.gpus.count} and len(kinds) <= 1


@FEW
@given(some_hosts(), wishes(), a_group())
def test_a_group_has_all_its_parts_on_equal_hosts_or_none(hosts: list[Host], before: list[Wish], wish: Wish) -> None:
    fleet = Fleet.of(hosts)
    fill(fleet, before)
    found = place(fleet, wish)
    assert isinstance(found, Unplaced) or is_whole(found, wish)


@FEW
@given(some_hosts(), wishes())
def test_no_gpu_is_promised_beyond_what_it_has_with_groups_among_the_wishes(
    hosts: list[Host], wanted: list[Wish]
) -> None:
    fleet = Fleet.of(hosts)
    placed = fill(fleet, wanted)
    assert overcommitted(hosts, fleet, placed) == []
    for name in placed:
        assert len(fleet.hosts_of(name)) == max(1, placed[name].span)
        fleet.remove(name)
    assert all(set(view.taken) <= {0.0} and not view.replicas for view in fleet.views), "all of it is given back"


@FEW
@given(some_hosts(), a_group())
def test_a_group_that_fits_is_placed_when_it_is_alone_and_else_every_host_has_a_reason(
    hosts: list[Host], wish: Wish
) -> None:
    found = place(Fleet.of(hosts), wish)
    kind = {host.name: host.gpus[0].model if host.gpus and wish.gpus.count else "" for host in hosts}
    alike = Counter(kind[host.name] for host in hosts if host_fits(host, wish))
    assert isinstance(found, Placed) == (max(alike.values(), default=0) >= wish.span)
    if isinstance(found, Unplaced):
        assert sorted(name for group in found.why.groups for name in group.hosts) == [host.name for host in hosts]
        assert all(group.reason for group in found.why.groups)


@FEW
@given(some_hosts(), wishes(PRIORITIES), a_group((20, 100)))
def test_a_group_never_lowers_the_priority_that_is_served(hosts: list[Host], before: list[Wish], wish: Wish) -> None:
    fleet = Fleet.of(hosts)
    placed = fill(fleet, before)
    found = place(fleet, wish)
    if not isinstance(found, Awaiting):
        return
    victims = {held.id for held in found.victims}
    assert victims == set(found.leaving)
    assert all(placed[name].priority < wish.priority for name in victims)
    assert sum(placed[name].priority * placed[name].demand for name in victims) <= wish.priority * wish.demand
    for name in victims:
        fleet.remove(name)
    for host, uuids in found.where:
        (view,) = [view for view in fleet.views if view.host.id == host.id]
        assert fleet.fit(view, wish) is not None
        assert all(view.taken[position] == 0.0 for position in view.positions(uuids))


@FEW
@given(some_hosts(), wishes(PRIORITIES), a_group((100,)))
def test_the_order_in_which_hosts_are_listed_does_not_matter(hosts: list[Host], before: list[Wish], wish: Wish) -> None:
    answers = []
    for listed in (hosts, list(reversed(hosts))):
        fleet = Fleet.of(listed)
        fill(fleet, before)
        found = place(fleet, wish)
        where = () if isinstance(found, Unplaced) else found.where
        answers.append((found.reason, [(host.name, uuids) for host, uuids in where]))
    assert answers[0] == answers[1]


@FEW
@given(some_hosts(), wishes(PRIORITIES), a_wish((100,)))
def test_whoever_sends_a_part_of_a_group_away_pays_for_all_of_it(
    hosts: list[Host], before: list[Wish], wish: Wish
) -> None:
    fleet = Fleet.of(hosts)
    placed = fill(fleet, before)
    found = place(fleet, wish)
    if isinstance(found, Awaiting):
        assert sum(placed[held.id].priority * placed[held.id].demand for held in found.victims) <= 100 * wish.demand


def test_none_drains_first_for_a_group_unless_all_of_its_parts_have_room_then() -> None:
    fleet = Fleet.of(a_host(f"h{number}", gpus=[a_gpu(f"GPU-{number}")]) for number in range(2))
    single = Wish("chat", GpuNeed(1))
    fleet.add(Held.at("chat-1", single, ["GPU-0"]), "id-h0")
    fleet.add(Held.at("chat-2", single, ["GPU-1"]), "id-h1")
    group = Wish("chat", GpuNeed(1, across=True), engine="vllm", span=2)
    assert room_makers(fleet, group, ["chat-1"]) == set()
    assert room_makers(fleet, group, ["chat-2", "chat-1"]) == {"chat-1", "chat-2"}
    fleet.leave("chat-2")
    assert room_makers(fleet, group, ["chat-1"]) == {"chat-1"}
