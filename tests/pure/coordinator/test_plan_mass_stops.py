"""The coordinator's own mistakes stop nothing: rows that vanished, recipes that cannot be found."""

from fakes.world import World
from hypothesis import given
from hypothesis import strategies as st
from studio.v1.assignment_pb2 import AssignedReplica, Assignment
from studio_coordinator.plan.mass_stops import held_back
from studio_coordinator.plan.reconcile import plan


def documents(*sizes: int) -> dict[str, Assignment]:
    return {
        f"h{host}": Assignment(
            generation=1, replicas=[AssignedReplica(replica_id=f"r{host}-{number}") for number in range(size)]
        )
        for host, size in enumerate(sizes)
    }


@given(st.lists(st.integers(0, 5), min_size=1, max_size=6), st.data())
def test_never_more_than_half_of_a_host_or_of_the_fleet_goes_unexplained(sizes: list[int], data: st.DataObject):
    current = documents(*sizes)
    every = [item.replica_id for document in current.values() for item in document.replicas]
    kept = set(data.draw(st.lists(st.sampled_from(every), unique=True)) if every else [])
    explained = set(data.draw(st.lists(st.sampled_from(every), unique=True)) if every else [])
    wanted = {
        host: [item for item in document.replicas if item.replica_id in kept] for host, document in current.items()
    }
    held = held_back(current, wanted, explained)
    gone = {
        host: [
            item.replica_id
            for item in document.replicas
            if item.replica_id not in kept | explained and item not in held.get(host, [])
        ]
        for host, document in current.items()
    }
    assert 2 * sum(map(len, gone.values())) <= len(every)
    assert all(2 * len(ids) <= len(current[host].replicas) for host, ids in gone.items())
    # What somebody wants gone goes.
    assert all(item.replica_id not in explained for items in held.values() for item in items)


def test_rows_that_vanished_stop_nothing_and_are_told():
    world = World(hosts=2, gpus=2)
    world.deploy("chat", replicas=3)
    world.settle()
    before = dict(world.assignments)
    world.replicas.clear()
    world.deployments.clear()
    decided = plan(world.snapshot())
    assert sorted(id_ for ids in decided.held_back.values() for id_ in ids) == ["chat-1", "chat-2", "chat-3"]
    assert not decided.assignments
    assert world.assignments == before


def test_what_an_operator_stops_is_not_held_back():
    world = World(hosts=1, gpus=2)
    world.deploy("chat", replicas=2)
    world.settle()
    world.deployments["chat"].stopped = True
    world.settle()
    assert not plan(world.snapshot()).held_back
    assert not world.assignments[world.hosts[0].host.id].replicas
