"""The plan's behaviour, told as short stories."""

from fakes.world import World
from studio.v1.deployment_pb2 import Deployment
from studio.v1.host_pb2 import Host
from studio.v1.replica_pb2 import Replica
from studio_coordinator.plan.status import with_state


def test_a_deployment_is_placed_started_routed_and_then_ready() -> None:
    world = World()
    world.deploy("chat")
    world.step()
    assert world.states() == {"chat-1": "PENDING"}
    assert [item.replica_id for item in world.assignments["id-h1"].replicas] == ["chat-1"]
    world.hosts[0].take(world.assignments["id-h1"])
    world.hosts[0].step("chat-1", Replica.STATE_READY)
    world.step()
    # The engine answers, and the route is published, but no gateway has it yet.
    assert world.states() == {"chat-1": "STARTING"}
    assert world.endpoints("chat") == ["chat-1"]
    world.acknowledged = world.table.version
    world.step()
    assert world.states() == {"chat-1": "READY"}


def test_a_stopped_replica_leaves_the_routes_before_its_host_is_told() -> None:
    world = World()
    world.deploy("chat")
    world.settle()
    world.deployments["chat"].stopped = True
    world.step()
    assert world.endpoints("chat") == []
    assert world.states() == {"chat-1": "DRAINING"}
    world.step()
    assert len(world.assignments["id-h1"].replicas) == 1, "no gateway has acknowledged the withdrawal yet"
    world.acknowledged = world.table.version
    world.step()
    assert len(world.assignments["id-h1"].replicas) == 0
    assert world.assignments["id-h1"].stops_confirmed
    world.settle()
    assert world.states() == {}


def test_a_new_revision_takes_over_only_once_it_serves() -> None:
    world = World(hosts=1, gpus=2)
    world.deploy("chat", revision=1)
    world.settle()
    world.deploy("chat", revision=2)
    world.step()
    assert world.endpoints("chat") == ["chat-1"]
    assert set(world.states()) == {"chat-1", "chat-2"}
    world.settle()
    assert world.states() == {"chat-2": "READY"}
    assert world.replicas["chat-2"].recipe_revision == 2


def test_a_revision_that_fails_leaves_the_old_one_serving() -> None:
    world = World(hosts=1, gpus=2)
    world.deploy("chat", revision=1)
    world.settle()
    world.deploy("chat", revision=2)
    world.step()
    world.hosts[0].take(world.assignments["id-h1"])
    world.hosts[0].step("chat-2", Replica.STATE_FAILED)
    for _ in range(5):
        world.step()
        world.acknowledged = world.table.version
    assert world.endpoints("chat") == ["chat-1"]
    assert world.states() == {"chat-1": "READY", "chat-2": "FAILED"}


def test_without_room_for_both_the_old_revision_stays_unless_the_operator_allows_otherwise() -> None:
    world = World(hosts=1, gpus=1)
    world.deploy("chat", revision=1)
    world.settle()
    world.deploy("chat", revision=2)
    world.settle()
    assert world.states() == {"chat-1": "READY", "chat-2": "PENDING"}
    assert "chat-1 holds 1" in world.replicas["chat-2"].state_reason
    world.deployments["chat"].spec.rollout.drain_first_allowed = True
    world.settle()
    assert world.states() == {"chat-2": "READY"}


def test_a_failed_replica_of_an_old_revision_makes_room_for_the_new_one() -> None:
    world = World(hosts=1, gpus=1)
    world.deploy("chat", revision=1)
    world.step()
    world.hosts[0].take(world.assignments["id-h1"])
    world.hosts[0].step("chat-1", Replica.STATE_FAILED)
    world.step()
    world.deploy("chat", revision=2)
    world.settle()
    assert world.states() == {"chat-2": "READY"}


def test_a_lost_host_is_replaced_and_the_original_kept_when_it_returns() -> None:
    world = World(hosts=2, gpus=1)
    world.deploy("chat")
    world.settle()
    world.silence(1)
    world.wait(30)
    world.step()
    assert world.hosts[0].host.state == Host.STATE_DISCONNECTED
    assert world.endpoints("chat") == ["chat-1"], "its route stays while it may still serve"
    world.wait(600)
    world.step()
    assert world.states()["chat-1"] == "LOST"
    assert set(world.states()) == {"chat-1", "chat-2"}
    world.call_again(1)
    world.settle()
    assert world.states() == {"chat-1": "READY"}


def test_a_replica_that_was_replaced_for_good_is_stopped_on_the_host_that_returns() -> None:
    world = World(hosts=2, gpus=1)
    world.deploy("chat")
    world.settle()
    world.silence(1)
    world.wait(630)
    world.step()
    world.settle()
    assert world.states()["chat-2"] == "READY"
    world.call_again(1)
    world.settle()
    assert world.states() == {"chat-2": "READY"}
    assert world.hosts[0].running == {}


def test_an_original_that_returns_is_kept_before_a_replacement_that_still_loads_whatever_their_numbers() -> None:
    world = World(hosts=2, gpus=1)
    world.deploy("chat")
    world.settle()
    world.silence(1)
    world.wait(630)
    world.step()
    world.settle()
    world.call_again(1)
    world.settle()
    # The replacement of the replacement gets the number that is free again.
    world.silence(2)
    world.wait(630)
    world.step()
    world.step()
    assert world.states() == {"chat-2": "LOST", "chat-1": "PENDING"}
    world.hosts[0].take(world.assignments["id-h1"])
    world.call_again(2)
    world.step()
    assert world.endpoints("chat") == ["chat-2"]
    world.settle()
    assert world.states() == {"chat-2": "READY"}


def test_when_many_hosts_fall_silent_at_once_nothing_is_replaced() -> None:
    world = World(hosts=6, gpus=1)
    world.deploy("chat", replicas=3)
    world.settle()
    world.silence(1, 2, 3)
    world.wait(10_000)
    world.settle()
    assert [host.host.state for host in world.hosts[:3]] == [Host.STATE_DISCONNECTED] * 3
    assert world.endpoints("chat") == ["chat-1", "chat-2", "chat-3"]
    assert set(world.states()) == {"chat-1", "chat-2", "chat-3"}


def test_two_hosts_of_six_are_a_loss_like_any_other() -> None:
    world = World(hosts=6, gpus=1)
    world.deploy("chat", replicas=2)
    world.settle()
    world.silence(1, 2)
    world.wait(630)
    world.settle()
    assert world.endpoints("chat") == ["chat-3", "chat-4"]


def test_every_host_says_why_it_does_not_fit() -> None:
    world = World(hosts=3, gpus=1)
    world.hosts[1].host.cordoned = True
    world.hosts[2].host.gpus[0].health = 3
    world.hosts[2].host.gpus[0].health_reason = "XID 79"
    world.deploy("first")
    world.settle()
    world.deploy("second")
    world.step()
    assert world.replicas["second-1"].state_reason == (
        "no host fits: wants 1 GPU; "
        "1 host h1: 1 \N{MULTIPLICATION SIGN} NVIDIA H100 80GB HBM3, but first-1 holds 1 (priority 0 ≥ 0: not pre-empted); "
        "1 host h2: cordoned; 1 host h3: its GPU is quarantined: XID 79 (once mended: studio hosts gpus check)"
    )


def test_alike_refusals_are_told_together() -> None:
    world = World(hosts=6, gpus=1)
    world.deploy("big", gpus=8)
    world.step()
    assert world.replicas["big-1"].state_reason == (
        "no host fits: wants 8 GPUs on one host; 6 hosts h1..6: 1 GPU, 8 wanted; would fit: with 1 GPU on h1"
    )


def test_an_operator_can_have_what_gave_up_tried_anew() -> None:
    world = World(hosts=1, gpus=1)
    world.deploy("chat")
    world.step()
    world.hosts[0].take(world.assignments["id-h1"])
    world.hosts[0].step("chat-1", Replica.STATE_FAILED)
    world.settle()
    assert world.states() == {"chat-1": "FAILED"}
    world.deployments["chat"].tries = 1
    world.settle()
    assert world.states() == {"chat-1": "READY"}
    assert world.replicas["chat-1"].generation == 2


def test_a_deleted_deployment_is_forgotten_after_its_last_replica() -> None:
    world = World()
    world.deploy("chat")
    world.settle()
    world.deployments["chat"].stopped = True
    world.deployments["chat"].state = Deployment.STATE_STOPPING
    world.step()
    assert "chat" in world.deployments
    world.settle()
    assert world.deployments == {}
    assert world.states() == {}


def test_unknown_model_and_model_that_is_not_up_are_different_routes() -> None:
    world = World()
    world.deploy("chat").stopped = True
    world.settle()
    (route,) = world.table.routes
    assert route.model == "chat"
    assert route.unavailable_reason == "chat is stopped; start it with: studio start chat"


def test_shares_of_one_gpu_add_up_to_one() -> None:
    world = World(hosts=1, gpus=1)
    world.deploy("small", replicas=4)
    world.recipes["small", 1].resources.gpu.share = 0.3
    world.settle()
    assert sorted(world.states().values()) == ["PENDING", "READY", "READY", "READY"]


def test_deployment_state_is_told_from_its_replicas() -> None:
    world = World(hosts=1, gpus=1)
    deployment = world.deploy("chat", replicas=2)
    world.settle()
    told = with_state(deployment, list(world.replicas.values()))
    assert (told.state, told.ready_replicas, told.wanted_replicas) == (Deployment.STATE_DEGRADED, 1, 2)
    deployment.stopped = True
    world.settle()
    assert with_state(deployment, list(world.replicas.values())).state == Deployment.STATE_STOPPED


def test_a_host_that_drains_is_left_only_once_the_replacement_serves() -> None:
    world = World(hosts=2, gpus=1)
    world.deploy("chat")
    world.settle()
    assert world.replicas["chat-1"].host_name == "h1"
    world.hosts[0].host.cordoned = world.hosts[0].host.draining = True
    world.step()
    assert set(world.states()) == {"chat-1", "chat-2"}
    assert world.endpoints("chat") == ["chat-1"]
    world.settle()
    assert world.states() == {"chat-2": "READY"}
    assert world.replicas["chat-2"].host_name == "h2"
    assert world.hosts[0].running == {}


def test_a_host_that_drains_keeps_what_has_no_other_place() -> None:
    world = World(hosts=1, gpus=1)
    world.deploy("chat")
    world.settle()
    world.hosts[0].host.cordoned = world.hosts[0].host.draining = True
    world.settle()
    assert world.endpoints("chat") == ["chat-1"]
    assert "draining" in world.replicas["chat-2"].state_reason
