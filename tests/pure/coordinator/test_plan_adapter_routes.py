"""LoRA adapters as models of their own in the route table."""

from fakes.world import World
from studio.v1.replica_pb2 import Replica
from studio.v1.route_pb2 import Route


def routes(world: World) -> dict[str, Route]:
    return {route.model: route for route in world.table.routes}


def load(world: World, replica_id: str, *names: str) -> None:
    for host in world.hosts:
        if replica_id in host.running:
            host.running[replica_id].loaded_adapters[:] = names
    world.settle()


def test_an_adapter_is_routed_to_the_replicas_that_have_it() -> None:
    world = World()
    world.deploy("chat", replicas=2).spec.aliases.append("gpt")
    world.settle()
    load(world, "chat-2", "sql")
    (sql,) = [route for name, route in routes(world).items() if name != "chat"]
    assert (sql.model, list(sql.aliases)) == ("sql", [])
    assert [(end.replica_id, end.engine_model) for end in sql.endpoints] == [("chat-2", "sql")]
    assert world.endpoints("chat") == ["chat-1", "chat-2"]
    load(world, "chat-2")
    assert set(routes(world)) == {"chat"}


def test_an_adapter_of_the_recipe_is_known_before_anything_has_it() -> None:
    world = World(hosts=1, gpus=1)
    world.deploy("chat")
    world.recipes["chat", 1].lora.add(name="sql", source="hf://lab/sql")
    world.step()
    assert (routes(world)["sql"].unavailable_reason, routes(world)["sql"].starting) == (
        "no replica of chat is ready yet",
        True,
    )
    world.settle()
    assert routes(world)["sql"].unavailable_reason == "no replica of chat has the adapter sql"
    load(world, "chat-1", "sql")
    assert [end.replica_id for end in routes(world)["sql"].endpoints] == ["chat-1"]


def test_a_name_that_is_taken_stays_with_who_had_it() -> None:
    world = World(hosts=1, gpus=2)
    world.deploy("chat").spec.aliases.append("gpt")
    world.deploy("other")
    world.settle()
    load(world, "chat-1", "other", "gpt", "sql")
    load(world, "other-1", "sql")
    assert {name: [end.replica_id for end in route.endpoints] for name, route in routes(world).items()} == {
        "chat": ["chat-1"], "other": ["other-1"], "sql": ["chat-1"],
    }  # fmt: skip


def test_a_replica_that_is_to_go_leaves_the_routes_of_its_adapters_first() -> None:
    world = World(hosts=1, gpus=1)
    deployment = world.deploy("chat")
    world.settle()
    load(world, "chat-1", "sql")
    deployment.stopped = True
    world.step()
    assert "sql" not in routes(world)
    world.step()
    assert len(world.assignments["id-h1"].replicas) == 1, "no gateway has acknowledged the withdrawal yet"
    world.settle()
    assert world.states() == {}


def test_what_an_engine_has_survives_a_leader_that_has_not_heard_of_its_host() -> None:
    world = World(hosts=1, gpus=1)
    world.deploy("chat")
    world.settle()
    load(world, "chat-1", "sql")
    world.hosts[0].silent_since = world.now
    world.step()
    assert world.replicas["chat-1"].state == Replica.STATE_READY
    assert [end.replica_id for end in routes(world)["sql"].endpoints] == ["chat-1"]
