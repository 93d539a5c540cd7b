"""Stories of room: models that are still being read, engines that share a GPU, who makes way, who moves."""

from builders import GIB
from fakes.models import LLAMA_8B, LLAMA_70B, facts
from fakes.world import World
from google.protobuf.duration_pb2 import Duration
from studio.v1.deployment_pb2 import Deployment
from studio.v1.replica_pb2 import Replica
from studio_coordinator.plan.ladder import Demand
from studio_coordinator.plan.moves import rebalanced
from studio_coordinator.plan.on_demand import Activity
from studio_coordinator.plan.preview import preview
from studio_coordinator.plan.sizing import Sizing, gpu_kinds, size


def know(world: World, name: str, config: dict[str, object]) -> None:
    """As if the model of the recipe had been read."""
    kinds = gpu_kinds([simulated.host for simulated in world.hosts])
    world.sizes[name, 1] = size(world.recipes[name, 1], facts(config), kinds, {})


def deploy_idle(world: World, name: str, priority: int = 0) -> None:
    """A deployment that comes and goes by demand, and is idle."""
    deployment = world.deploy(name, priority=priority)
    deployment.spec.idle.stop_after.CopyFrom(Duration(seconds=600))
    world.settle()
    world.activities[f"{name}-1"] = Activity(on_demand=True, idle_seconds=1000)


def told_bytes(world: World) -> dict[str, int]:
    return {item.replica_id: item.gpu_memory_bytes for doc in world.assignments.values() for item in doc.replicas}


def test_a_replica_waits_while_its_model_is_being_read_and_that_is_no_event() -> None:
    world = World(hosts=1)
    world.deploy("chat")
    world.sizes["chat", 1] = Sizing(being_read=True)
    world.settle()
    assert world.states() == {"chat-1": "PENDING"}
    assert world.replicas["chat-1"].state_reason == "its model is being read"
    assert not [event for event in world.events if "waits" in event]
    del world.sizes["chat", 1]
    world.settle()
    assert world.states() == {"chat-1": "READY"}


def test_reading_the_new_revisions_model_retires_nobody() -> None:
    world = World(hosts=1, gpus=1)
    world.deploy("chat")
    world.settle()
    deployment = world.deploy("chat", revision=2)
    deployment.spec.rollout.drain_first_allowed = True
    world.sizes["chat", 2] = Sizing(being_read=True)
    world.settle()
    assert world.states() == {"chat-1": "READY", "chat-2": "PENDING"}


def test_engines_that_share_a_gpu_are_told_their_part_and_keep_it() -> None:
    world = World(hosts=1, gpus=1)
    for name in ("chat", "code"):
        world.deploy(name)
        world.recipes[name, 1].resources.gpu.share = 0.4
        world.recipes[name, 1].args.max_model_len.value = 4096
        know(world, name, LLAMA_8B)
    world.settle()
    told = told_bytes(world)
    assert world.states() == {"chat-1": "READY", "code-1": "READY"}
    assert all(25 * GIB < allowed < 32 * GIB for allowed in told.values())
    world.sizes.clear()
    world.step()
    assert told_bytes(world) == told, "what a running engine was told stays"


def test_an_engine_that_the_estimate_finds_too_large_for_what_is_left_waits() -> None:
    world = World(hosts=1, gpus=1)
    for name in ("a", "b", "c", "d", "e"):
        world.deploy(name)
        world.recipes[name, 1].resources.gpu.share = 0.2
        world.recipes[name, 1].args.max_model_len.value = 8192
        world.recipes[name, 1].args.max_num_seqs = 16
        know(world, name, LLAMA_8B)
    need = world.sizes["a", 1].gpu_memory_bytes
    world.settle()
    ready = [name for name, state in world.states().items() if state == "READY"]
    assert len(ready) == 80 * GIB // need, "the share alone would have let all of them in"


def test_an_idle_model_makes_way_for_a_more_important_one_and_comes_back_when_it_is_asked_for() -> None:
    world = World(hosts=1, gpus=1)
    deploy_idle(world, "small")
    world.wait(100)
    world.deploy("big", priority=10)
    world.settle()
    assert world.states() == {"big-1": "READY"}
    assert "makes room for big: idle for 1000 s" in " ".join(world.events)
    world.demands["small"] = Demand(held=1)
    world.settle()
    assert world.states() == {"big-1": "READY", "small-1": "PENDING"}
    world.deployments["big"].stopped = True
    world.settle()
    assert world.states() == {"small-1": "READY"}


def test_a_model_of_equal_priority_or_without_an_idle_policy_stays() -> None:
    for idle, priority in ((True, 10), (False, 0)):
        world = World(hosts=1, gpus=1)
        deploy_idle(world, "small", priority)
        world.activities["small-1"] = Activity(on_demand=idle, idle_seconds=1000)
        world.wait(100)
        world.deploy("big", priority=10)
        world.settle()
        assert world.states() == {"big-1": "PENDING", "small-1": "READY"}


def test_the_idle_model_goes_rather_than_a_busy_one_that_could_be_pre_empted() -> None:
    world = World(hosts=1, gpus=2)
    world.deploy("busy")
    world.settle()
    deploy_idle(world, "idle")
    world.wait(1000)
    world.deploy("big", priority=10)
    world.settle()
    assert world.states() == {"busy-1": "READY", "big-1": "READY"}


def test_figures_that_move_in_a_reason_are_no_new_event() -> None:
    world = World(hosts=1, gpus=1)
    world.deploy("chat")
    world.recipes["chat", 1].resources.gpu.memory.bytes = 40 * GIB
    (gpu,) = world.hosts[0].host.gpus
    gpu.figures.processes.add(pid=7, command="python", user="alice", memory_used_bytes=60 * GIB)
    world.step()
    first = world.replicas["chat-1"].state_reason
    gpu.figures.processes[0].memory_used_bytes = 70 * GIB
    world.step()
    assert "20.0 GiB free" in first
    assert "pid 7 (python, user alice)" in first
    assert "10.0 GiB free" in world.replicas["chat-1"].state_reason
    assert sum("waits" in event for event in world.events) == 1


def test_a_sleeping_model_leaves_its_gpu_but_for_what_it_keeps() -> None:
    world = World(hosts=1, gpus=1)
    world.deploy("embed")
    world.settle()
    world.deployments["embed"].rest = Deployment.REST_SLEEP
    world.settle()
    (gpu,) = world.hosts[0].host.gpus
    gpu.figures.processes.add(pid=9, replica_id="embed-1", memory_used_bytes=3 * GIB)
    for name, wanted in (("large", 78), ("chat", 70)):
        world.deploy(name)
        world.recipes[name, 1].resources.gpu.memory.bytes = wanted * GIB
        world.settle()
    assert world.states() == {"embed-1": "SLEEPING", "large-1": "PENDING", "chat-1": "READY"}
    assert "embed-1 (asleep) holds 3.0 GiB" in " ".join(world.events)


def crowd(world: World) -> None:
    """Two replicas of one deployment on the first host, because the second was away."""
    world.silence(2)
    world.wait(30)
    world.deploy("chat", replicas=2)
    world.settle()
    world.call_again(2)
    world.settle()


def test_a_move_brings_the_replacement_up_before_the_old_replica_drains() -> None:
    world = World(hosts=2)
    crowd(world)
    found = rebalanced(world.snapshot(), {"chat-1": 41.0, "chat-2": 41.0})
    (move,) = found.moves
    assert (move.from_host, move.to_host, move.cost_seconds) == ("h1", "h2", 41.0)
    for row in (*found.inserted, *found.updated):
        world.replicas[row.id] = row
    world.step()
    assert len(world.endpoints("chat")) == 2, "nobody went yet"
    world.settle()
    assert {row.host_name for row in world.replicas.values()} == {"h1", "h2"}
    assert len(world.endpoints("chat")) == 2
    assert not rebalanced(world.snapshot(), {}).moves


def test_a_replica_over_several_hosts_stays_as_a_whole() -> None:
    world = World(hosts=3, gpus=2)
    world.deploy("big", gpus=1)
    world.recipes["big", 1].resources.hosts = 2
    world.deploy("chat").spec.placement.hosts.append("h3")
    world.settle()
    assert world.states() == {"big-1": "READY", "chat-1": "READY"}
    assert not rebalanced(world.snapshot(), {}).moves


def test_a_move_into_the_room_of_another_waits_for_the_next_time() -> None:
    world = World(hosts=2, gpus=3)
    crowd(world)
    world.silence(1)
    world.wait(30)
    world.deploy("embed", replicas=2)
    world.settle()
    world.call_again(1)
    world.hosts[0].host.gpus.pop()
    world.settle()
    found = rebalanced(world.snapshot(), {})
    assert [(move.from_host, move.to_host) for move in found.moves] == [("h1", "h2")]
    rows = [*world.replicas.values(), *found.inserted]
    held = [uuid for row in rows for uuid in row.gpu_uuids]
    assert len(held) == len(set(held)), "nobody starts on a GPU that another still holds"


def test_a_replacement_that_fails_leaves_the_old_replica_serving() -> None:
    world = World(hosts=2)
    crowd(world)
    found = rebalanced(world.snapshot(), {})
    for row in (*found.inserted, *found.updated):
        world.replicas[row.id] = row
    world.step()
    world.hosts[1].take(world.assignments["id-h2"])
    world.hosts[1].step(found.inserted[0].id, Replica.STATE_FAILED)
    world.settle()
    assert len(world.endpoints("chat")) == 2
    assert world.states()[found.moves[0].replica_id] == "READY"


def test_a_preview_says_where_and_why_not_elsewhere_and_who_would_have_to_go() -> None:
    world = World(hosts=2, gpus=1)
    world.deploy("small")
    world.settle()
    world.hosts[1].host.cordoned = True
    world.wait(1000)
    world.deploy("big", priority=10)
    know(world, "big", LLAMA_8B)
    found = preview(world.snapshot(), {"big"})
    (planned,) = found.replicas
    assert planned.host_name == ""
    assert planned.reason == "small-1 has to leave h1 first"
    assert found.preempted == ("small-1 on h1: pre-empted by big-1 (priority 10 over 0)",)
    assert any("cordoned" in refusal for refusal in planned.refusals)
    assert planned.on is not None
    assert preview(world.snapshot(), {"big"}) == found


def test_a_preview_of_what_fits_tells_what_its_host_would_be_told() -> None:
    world = World(hosts=2, gpus=2)
    world.deploy("chat", gpus=2)
    know(world, "chat", LLAMA_70B)
    (planned,) = preview(world.snapshot(), {"chat"}).replicas
    assert planned.host_name == "h1"
    assert planned.told is not None
    assert list(planned.told.gpu_uuids) == list(planned.gpu_uuids)
    assert planned.refusals == ("1 host h2: has room, and ranks behind",)


def test_a_preview_of_a_stopped_deployment_says_what_one_replica_would_take() -> None:
    world = World(hosts=1)
    world.deploy("chat").stopped = True
    know(world, "chat", LLAMA_8B)
    (planned,) = preview(world.snapshot(), {"chat"}).replicas
    assert (planned.replica_id, planned.on is not None) == ("", True)
    assert "wants no replica now" in planned.reason
