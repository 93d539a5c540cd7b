"""A replica over several hosts, told step by step: it is placed as a whole, fails as a whole, and goes as a whole."""

from fakes.world import World
from studio.v1.assignment_pb2 import AssignedReplica
from studio.v1.host_pb2 import Host
from studio.v1.replica_pb2 import Replica
from studio_coordinator.plan.group import RESTART_BUDGET


def a_world(hosts: int = 2, gpus: int = 2, span: int = 2) -> World:
    world = World(hosts=hosts, gpus=gpus)
    world.deploy("big", gpus=gpus)
    world.recipes["big", 1].resources.hosts = span
    return world


def told(world: World, number: int) -> AssignedReplica:
    """What host ``number`` is to run of the only replica."""
    (item,) = world.assignments[f"id-h{number}"].replicas
    return item


def running(world: World) -> set[tuple[str, int]]:
    """Host and generation of every part that runs."""
    return {
        (one.host.name, seen.generation)
        for one in world.hosts
        for seen in one.running.values()
        if one.assignment.replicas
    }


def break_part(world: World, number: int, state: "Replica.State.ValueType" = Replica.STATE_FAILED) -> None:
    world.hosts[number - 1].step("big-1", state)


def test_every_part_is_told_its_rank_and_where_all_of_them_meet() -> None:
    world = a_world()
    world.hosts[0].host.facts.engine_address = "10.0.0.1"
    world.settle()
    first, second = told(world, 1), told(world, 2)
    assert (first.group.rank, second.group.rank) == (0, 1)
    assert first.group.size == second.group.size == 2
    assert first.group.leader_address == second.group.leader_address == "10.0.0.1"
    assert first.group.leader_port == second.group.leader_port > 0
    assert list(second.gpu_uuids) == ["GPU-h2-0", "GPU-h2-1"]
    assert world.states() == {"big-1": "READY"}
    assert world.endpoints("big") == ["big-1"]


def test_too_few_alike_hosts_place_no_part_of_it() -> None:
    world = a_world(hosts=1)
    world.step()
    assert world.replicas["big-1"].host_id == ""
    assert not any(document.replicas for document in world.assignments.values())
    assert world.replicas["big-1"].state_reason == (
        "no host fits: wants 2 alike hosts, each with 2 GPUs; "
        "1 host h1: room for one part, but 2 alike hosts with room are wanted"
    )


def test_hosts_whose_engines_listen_on_loopback_reach_nobody_else() -> None:
    world = a_world()
    for one in world.hosts:
        one.host.facts.engine_address = "127.0.0.1"
        one.host.facts.hostname = one.host.name
    world.step()
    assert world.replicas["big-1"].host_id == ""
    for one in world.hosts:
        one.host.facts.hostname = "the-same-machine"
    world.settle()
    assert world.states() == {"big-1": "READY"}


def test_a_member_that_fails_stops_all_parts_and_all_begin_anew_after_a_wait() -> None:
    world = a_world()
    world.settle()
    port = told(world, 1).group.leader_port
    break_part(world, 2)
    world.step()
    assert world.states() == {"big-1": "FAILED"}
    assert world.endpoints("big") == []
    assert running(world) == {("h1", 1), ("h2", 1)}, "gateways may still route to it"
    world.settle()
    assert not any(document.replicas for document in world.assignments.values()), "both hosts are told to stop it"
    assert "restart 1 of 3 in 1 s" in world.replicas["big-1"].state_reason
    world.settle()
    assert running(world) == set()
    world.wait(1)
    world.settle()
    assert running(world) == {("h1", 2), ("h2", 2)}
    assert world.states() == {"big-1": "READY"}
    assert world.endpoints("big") == ["big-1"]
    assert told(world, 1).group.leader_port != port, "a port that was the trouble is not taken again"


def test_a_part_that_was_begun_anew_by_itself_is_of_no_use_to_the_others() -> None:
    for number in (1, 2):
        world = a_world()
        world.settle()
        break_part(world, number, Replica.STATE_STARTING)
        world.step()
        assert world.states() == {"big-1": "FAILED"}
        assert "its engine was begun anew" in world.replicas["big-1"].state_reason


def test_a_group_that_fails_again_and_again_is_given_up_until_an_operator_starts_it() -> None:
    world = a_world()
    for _ in range(RESTART_BUDGET):
        world.settle()
        break_part(world, 2)
        world.step()
        world.wait(60)
    world.settle()
    break_part(world, 2)
    world.settle()
    assert "given up after 3 restarts" in world.replicas["big-1"].state_reason
    world.wait(10_000)
    world.settle()
    assert world.states() == {"big-1": "FAILED"}
    # What the store does: above the generation that gave up.
    world.deployments["big"].tries = world.replicas["big-1"].generation
    world.settle()
    assert world.states() == {"big-1": "READY"}
    assert world.replicas["big-1"].restarts == 0


def test_who_served_long_has_its_whole_budget_again() -> None:
    world = a_world()
    for _ in range(2 * RESTART_BUDGET):
        world.settle()
        world.wait(700)
        break_part(world, 1)
        world.step()
        assert "restart 1 of 3" in world.replicas["big-1"].state_reason
        world.wait(60)


def test_a_lost_host_has_the_whole_replaced_on_hosts_that_are_there() -> None:
    world = a_world(hosts=3)
    world.settle()
    world.silence(2)
    world.wait(30)
    world.settle()
    assert world.endpoints("big") == ["big-1"], "its gateway sees for itself whether it still answers"
    world.wait(700)
    world.settle()
    rows = {row.id: [row.host_name, *(member.host_name for member in row.members)] for row in world.replicas.values()}
    assert rows["big-2"] == ["h1", "h3"]
    assert world.endpoints("big") == ["big-2"]
    assert running(world) == {("h1", 1), ("h2", 1), ("h3", 1)}, "h2 does not know yet"
    world.call_again(2)
    world.settle()
    assert running(world) == {("h1", 1), ("h3", 1)}
    assert world.states() == {"big-2": "READY"}


def test_a_host_that_drains_moves_the_whole() -> None:
    world = a_world(hosts=4)
    world.settle()
    world.hosts[1].host.draining = True
    world.settle()
    assert world.states() == {"big-2": "READY"}
    assert running(world) == {("h3", 1), ("h4", 1)}


def test_stopping_withdraws_the_route_before_any_part_stops() -> None:
    world = a_world()
    world.settle()
    world.deployments["big"].stopped = True
    world.step()
    assert world.endpoints("big") == []
    assert running(world) == {("h1", 1), ("h2", 1)}
    world.settle()
    assert world.replicas == {}
    assert running(world) == set()


def test_the_gpus_of_a_part_are_free_as_soon_as_it_is_gone_although_others_are_not() -> None:
    world = a_world(hosts=2)
    world.settle()
    world.silence(2)
    world.wait(700)
    world.settle()
    assert world.hosts[1].host.state == Host.STATE_LOST
    world.deployments["big"].stopped = True
    world.deploy("small", gpus=2)
    world.settle()
    assert world.states() == {"big-1": "STOPPED", "small-1": "READY"}
    assert world.replicas["small-1"].host_name == "h1"
