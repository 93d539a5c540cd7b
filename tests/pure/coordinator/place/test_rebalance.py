"""Moves that free whole hosts or heal spread."""

from builders import a_gpu, a_host
from fakes.random_placement import a_wish, overcommitted, some_hosts
from hypothesis import given, settings
from hypothesis import strategies as st
from studio.v1.host_pb2 import Host
from studio_coordinator.plan.fleet import Fleet
from studio_coordinator.plan.gpus import SLACK
from studio_coordinator.plan.occupancy import Held
from studio_coordinator.plan.rebalance import propose_moves
from studio_coordinator.plan.wish import GpuNeed, Wish


def a_fleet(hosts: int, gpus: int) -> Fleet:
    return Fleet.of(
        a_host(f"h{number}", gpus=[a_gpu(f"GPU-{number}-{index}", index) for index in range(gpus)])
        for number in range(hosts)
    )


def run(fleet: Fleet, name: str, wish: Wish, host: int, *gpus: int) -> dict[str, Wish]:
    fleet.add(Held.at(name, wish, [f"GPU-{host}-{index}" for index in gpus]), f"id-h{host}")
    return {name: wish}


def test_a_nearly_empty_host_is_freed_onto_one_in_use() -> None:
    fleet = a_fleet(3, 8)
    wishes = run(fleet, "chat-1", Wish("chat", GpuNeed(1)), 0, 0)
    wishes |= run(fleet, "big-1", Wish("big", GpuNeed(4)), 1, 0, 1, 2, 3)
    (move,) = propose_moves(fleet, wishes)
    assert (move.replica_id, move.from_host, move.to_host, move.cost) == ("chat-1", "h0", "h1", 1.0)
    assert move.reason == "frees h0, 8 GPUs"


def test_a_host_that_cannot_be_emptied_is_left_alone() -> None:
    fleet = a_fleet(2, 4)
    wishes = run(fleet, "chat-1", Wish("chat", GpuNeed(1)), 0, 0)
    wishes |= run(fleet, "wide-1", Wish("wide", GpuNeed(2)), 0, 1, 2)
    wishes |= run(fleet, "big-1", Wish("big", GpuNeed(3)), 1, 0, 1, 2)
    before = {name: fleet.host_of(name) for name in wishes}
    assert propose_moves(fleet, wishes) == []
    assert {name: fleet.host_of(name) for name in wishes} == before


def test_two_replicas_on_one_host_are_spread_again() -> None:
    fleet = a_fleet(2, 4)
    wish = Wish("chat", GpuNeed(1))
    wishes = run(fleet, "chat-1", wish, 0, 0) | run(fleet, "chat-2", wish, 0, 1)
    (move,) = propose_moves(fleet, wishes)
    assert (move.replica_id, move.to_host, move.reason) == ("chat-1", "h1", "2 of chat there")


def test_replicas_that_are_to_be_packed_stay_together() -> None:
    fleet = a_fleet(2, 4)
    wish = Wish("chat", GpuNeed(1), pack=True)
    wishes = run(fleet, "chat-1", wish, 0, 0) | run(fleet, "chat-2", wish, 0, 1)
    assert propose_moves(fleet, wishes) == []


def test_replicas_that_retire_stay() -> None:
    fleet = a_fleet(2, 4)
    wishes = run(fleet, "chat-1", Wish("chat", GpuNeed(1)), 0, 0) | run(
        fleet, "big-1", Wish("big", GpuNeed(2)), 1, 0, 1
    )
    fleet.leave("chat-1")
    assert propose_moves(fleet, wishes) == []


@settings(max_examples=150, deadline=None)
@given(some_hosts(), st.lists(a_wish(), max_size=10))
def test_moves_lose_nobody_promise_nothing_twice_and_free_hosts_or_spread(
    hosts: list[Host], wishes: list[Wish]
) -> None:
    fleet = Fleet.of(hosts)
    placed = {}
    for number, wish in enumerate(wishes):
        best = fleet.best(wish)
        if best is not None:
            placed[f"{wish.deployment}-{number}"] = wish
            fleet.add(Held.at(f"{wish.deployment}-{number}", wish, best.gpu_uuids), best.view.host.id)
    where = {name: fleet.host_of(name) for name in placed}
    in_use = sum(bool(view.replicas) for view in fleet.views)
    moves = propose_moves(fleet, placed)
    assert {name for name in placed if fleet.host_of(name) is where[name]} == set(placed) - {
        m.replica_id for m in moves
    }
    assert len({move.replica_id for move in moves}) == len(moves), "no replica moves twice"
    assert overcommitted(hosts, fleet, placed) == []
    assert all(share < 1 + SLACK for view in fleet.views for share in view.taken), (
        "who moves keeps its place until the end"
    )
    if all(move.reason.startswith("frees") for move in moves) and moves:
        assert sum(bool(view.replicas.keys() - view.leaving) for view in fleet.views) < in_use
