"""Down the idle ladder while nobody asks, up as soon as somebody does."""

from datetime import timedelta

from builders import a_deployment, a_replica
from fakes.world import START, World, stamp
from google.protobuf.duration_pb2 import Duration
from hypothesis import given
from hypothesis import strategies as st
from studio.v1.assignment_pb2 import AssignedReplica
from studio.v1.deployment_pb2 import Deployment, IdlePolicy, Rollout
from studio.v1.recipe_pb2 import Recipe
from studio.v1.replica_pb2 import Replica
from studio_coordinator.plan.ladder import (
    Demand,
    RestChange,
    is_on_ladder,
    next_rest,
    rungs,
    sleep_levels,
)
from studio_coordinator.plan.reconcile import plan
from studio_coordinator.plan.status import with_state

AWAKE, SLEEP, DEEP, STOPPED = (
    Deployment.REST_AWAKE,
    Deployment.REST_SLEEP,
    Deployment.REST_DEEP_SLEEP,
    Deployment.REST_STOPPED,
)
NAMES = ("sleep_after", "deep_sleep_after", "stop_after")
LATER = START + timedelta(days=1)


def a_policy(**seconds: int) -> IdlePolicy:
    return IdlePolicy(**{name: Duration(seconds=value) for name, value in seconds.items()})


def a_model(rest: "Deployment.Rest.ValueType" = Deployment.REST_UNSPECIFIED, **seconds: int) -> Deployment:
    deployment = a_deployment()
    deployment.spec.idle.CopyFrom(a_policy(**seconds))
    deployment.rest, deployment.target_revision = rest, 1
    return deployment


def a_serving(state: "Replica.State.ValueType" = Replica.STATE_READY, revision: int = 1) -> Replica:
    row = a_replica(host_id="h1", state=state, state_since=stamp(START))
    row.recipe_name, row.recipe_revision = a_model().spec.recipe, revision
    return row


def decided(deployment: Deployment, demand: Demand | None, *rows: Replica, levels: int = 2) -> RestChange | None:
    return next_rest(deployment, rows or (a_serving(),), levels, demand, LATER)


def rest_of(change: RestChange | None) -> "Deployment.Rest.ValueType | None":
    return None if change is None else change.rest


def test_it_goes_down_rung_by_rung_with_time() -> None:
    times = {"sleep_after": 60, "deep_sleep_after": 600, "stop_after": 3600}
    for idle, expected in ((59, None), (60, SLEEP), (600, DEEP), (3600, STOPPED)):
        assert rest_of(decided(a_model(**times), Demand(idle_seconds=idle))) == expected
    deeper = decided(a_model(SLEEP, **times), Demand(idle_seconds=700))
    assert deeper is not None
    assert deeper.reason == "it sleeps deeply: nobody asked for it for 10 min"


def test_time_alone_never_wakes_it() -> None:
    assert decided(a_model(STOPPED, sleep_after=60, stop_after=90), Demand(idle_seconds=70)) is None


def test_a_request_that_waits_wakes_it() -> None:
    change = decided(a_model(STOPPED, stop_after=60), Demand(held=3))
    assert change is not None
    assert (change.rest, change.reason) == (AWAKE, "3 requests wait for it")
    assert decided(a_model(AWAKE, stop_after=60), Demand(held=3)) is None, "one waking for all of them"


def test_a_request_that_was_held_before_it_was_put_to_rest_does_not_wake_it() -> None:
    deployment = a_model(SLEEP, stop_after=60)
    deployment.rest_since.CopyFrom(stamp(LATER - timedelta(seconds=1)))
    assert decided(deployment, Demand(held=1, told_seconds_ago=2.0)) is None
    assert rest_of(decided(deployment, Demand(held=1, told_seconds_ago=0.5))) == AWAKE


def test_an_operators_stop_is_not_the_ladders_to_undo() -> None:
    deployment = a_model(stop_after=60)
    deployment.stopped = True
    assert decided(deployment, Demand(held=1)) is None


def test_what_is_not_known_or_busy_or_on_its_way_up_stays() -> None:
    model, long_idle = a_model(stop_after=60), Demand(idle_seconds=9999)
    assert decided(model, None) is None
    assert decided(model, Demand(in_flight=1, idle_seconds=9999)) is None
    for state in (Replica.STATE_STARTING, Replica.STATE_PREPARING, Replica.STATE_WAKING):
        assert decided(model, long_idle, a_serving(state)) is None
    assert rest_of(decided(model, long_idle, a_serving(Replica.STATE_FAILED))) == STOPPED


def test_while_it_changes_from_one_revision_to_another_it_stays() -> None:
    model, long_idle = a_model(stop_after=60), Demand(idle_seconds=9999)
    old = a_serving(revision=7)
    assert decided(model, long_idle, old) is None
    model.rollout.phase = Rollout.PHASE_PAUSED
    assert rest_of(decided(model, long_idle, old)) == STOPPED


def test_the_clock_starts_when_it_could_first_answer() -> None:
    fresh = a_serving()
    fresh.state_since.CopyFrom(stamp(LATER - timedelta(seconds=30)))
    assert decided(a_model(stop_after=60), Demand(idle_seconds=9999), fresh) is None
    woken = a_model(AWAKE, stop_after=60)
    woken.rest_since.CopyFrom(stamp(LATER - timedelta(seconds=30)))
    assert decided(woken, Demand(idle_seconds=9999)) is None


def test_rungs_that_the_engine_cannot_do_are_passed_over() -> None:
    whole = a_policy(sleep_after=1, deep_sleep_after=2, stop_after=3)
    assert rungs(whole, 2) == [(1, SLEEP), (2, DEEP), (3, STOPPED)]
    assert rungs(whole, 1) == [(1, SLEEP), (3, STOPPED)]
    assert rungs(whole, 0) == [(3, STOPPED)]
    assert rungs(a_policy(sleep_after=1, deep_sleep_after=2), 0) == [(1, STOPPED)]
    assert rungs(a_policy(deep_sleep_after=2), 1) == [(2, SLEEP)]


def test_who_can_sleep() -> None:
    def recipe(engine: str, *, sleep_mode: bool = True, hosts: int = 0) -> Recipe:
        made = Recipe()
        made.engine.name, made.args.sleep_mode = engine, sleep_mode
        if hosts:
            made.resources.hosts = hosts
        return made

    assert [sleep_levels([recipe(name)]) for name in ("vllm", "sglang", "demo", "llamacpp")] == [2, 1, 2, 0]
    assert sleep_levels([recipe("vllm", sleep_mode=False)]) == 0
    assert sleep_levels([recipe("vllm", hosts=2)]) == 0
    assert sleep_levels([recipe("vllm"), recipe("sglang")]) == 1
    assert sleep_levels([]) == 0


def test_a_deployment_that_wants_no_replica_waits_for_its_first_request() -> None:
    deployment = a_model(stop_after=60)
    deployment.spec.replicas.min = 0
    assert rest_of(decided(deployment, None)) == STOPPED


@given(
    st.dictionaries(st.sampled_from(NAMES), st.integers(1, 10_000), min_size=1),
    st.integers(0, 2),
    st.builds(
        Demand,
        held=st.integers(0, 2),
        in_flight=st.integers(0, 2),
        idle_seconds=st.floats(0, 20_000),
    ),
    st.sampled_from([Deployment.REST_UNSPECIFIED, AWAKE, SLEEP, DEEP, STOPPED]),
)
def test_the_ladder_never_sends_a_busy_model_down_and_comes_to_rest(
    times: dict[str, int], levels: int, demand: Demand, rest: "Deployment.Rest.ValueType"
) -> None:
    deployment = a_model(rest, **times)
    change = decided(deployment, demand, levels=levels)
    if change is not None:
        is_down = change.rest > max(rest, AWAKE)
        assert is_down != bool(demand.held), "up for requests, down for none"
        assert not (is_down and demand.in_flight)
        assert not is_down or demand.idle_seconds >= min(times.values())
        assert levels >= {SLEEP: 1, DEEP: 2}.get(change.rest, 0)
        after = change.applied(deployment, stamp(LATER))
        assert is_on_ladder(after)
        assert decided(after, demand, levels=levels) is None, "what was decided stays so"


# In a fleet


def a_sleeper(world: World, name: str, *, priority: int = 0, **seconds: int) -> Deployment:
    deployment = world.deploy(name, priority=priority)
    deployment.spec.idle.CopyFrom(a_policy(**seconds))
    world.recipes[name, 1].args.sleep_mode = True
    return deployment


def test_its_route_is_withdrawn_at_every_gateway_before_it_sleeps_and_then_can_be_woken() -> None:
    world = World(hosts=1, gpus=1)
    a_sleeper(world, "chat", sleep_after=60)
    world.settle()
    world.wait(100)
    world.demands["chat"] = Demand(idle_seconds=100)
    world.step()
    assert world.states() == {"chat-1": "DRAINING"}
    assert world.endpoints("chat") == []
    world.step()
    (told,) = world.assignments["id-h1"].replicas
    assert told.wish == told.WISH_RUN, "no gateway has acknowledged that yet"
    world.settle()
    (told,) = world.assignments["id-h1"].replicas
    assert (told.wish, told.sleep_level) == (told.WISH_SLEEP, 1)
    assert world.states() == {"chat-1": "SLEEPING"}
    (route,) = world.table.routes
    assert route.wakeable
    assert (route.starting, route.wake_deadline.seconds, route.wake_queue) == (False, 600, 256)
    state = with_state(world.deployments["chat"], list(world.replicas.values()))
    assert (state.state, state.wanted_replicas) == (Deployment.STATE_ASLEEP, 1)
    world.demands["chat"] = Demand(held=1)
    world.settle()
    assert world.states() == {"chat-1": "READY"}
    assert world.endpoints("chat") == ["chat-1"]


def test_what_a_host_was_told_is_not_taken_back_while_a_later_table_is_on_its_way() -> None:
    world = World(hosts=1, gpus=2)
    a_sleeper(world, "chat", sleep_after=60)
    world.deploy("code")
    world.settle()
    world.wait(100)
    world.demands["chat"] = Demand(idle_seconds=100)
    world.settle()
    world.deployments["code"].spec.aliases.append("c")
    decided_now = world.step()
    assert decided_now.table is not None
    assert not world.step().assignments, "chat sleeps on, though no gateway has the new table yet"


def test_a_retiring_replica_does_not_come_back_while_a_later_table_is_on_its_way() -> None:
    world = World(hosts=1, gpus=2)
    world.deploy("chat")
    world.deploy("code")
    world.settle()
    world.deployments["chat"].stopped = True
    world.step()
    world.acknowledged = world.table.version
    world.step()
    assert [item.replica_id for item in world.assignments["id-h1"].replicas] == ["code-1"]
    world.deployments["code"].spec.aliases.append("c")
    world.step()
    assert [item.replica_id for item in world.assignments["id-h1"].replicas] == ["code-1"]


def test_from_stopped_it_is_placed_anew() -> None:
    world = World(hosts=1, gpus=1)
    a_sleeper(world, "chat", stop_after=60)
    world.settle()
    world.wait(100)
    world.demands["chat"] = Demand(idle_seconds=100)
    world.settle()
    assert world.states() == {}
    assert world.table.routes[0].wakeable
    world.demands["chat"] = Demand(held=1)
    world.step()
    assert world.table.routes[0].wakeable, "while it comes up requests are held too"
    world.settle()
    assert world.states() == {"chat-1": "READY"}
    assert plan(world.snapshot()).is_empty


def test_a_sleeper_whose_gpu_was_given_away_wakes_elsewhere_or_waits_for_its_turn() -> None:
    world = World(hosts=1, gpus=1)
    a_sleeper(world, "chat", sleep_after=60)
    world.settle()
    world.wait(100)
    world.demands["chat"] = Demand(idle_seconds=100)
    world.settle()
    world.deploy("code")
    world.settle()
    assert world.states() == {"chat-1": "SLEEPING", "code-1": "READY"}
    world.demands["chat"] = Demand(held=1)
    world.settle()
    assert world.states() == {"chat-1": "SLEEPING", "code-1": "READY"}
    told = with_state(world.deployments["chat"], [world.replicas["chat-1"]])
    assert "chat-1 sleeps, and others have its GPUs on h1" in told.state_reason
    world.deployments["code"].stopped = True
    world.settle()
    assert world.states() == {"chat-1": "READY"}


def test_a_sleeper_that_is_to_go_sleeps_on_until_then_since_its_gpu_is_anothers() -> None:
    world = World(hosts=2, gpus=1)
    a_sleeper(world, "chat", sleep_after=60).spec.placement.hosts.append("h1")
    world.settle()
    world.wait(100)
    world.demands["chat"] = Demand(idle_seconds=100)
    world.settle()
    world.deploy("code").spec.placement.hosts.append("h1")
    world.settle()
    del world.deployments["chat"].spec.placement.hosts[:]
    world.deployments["code"].spec.aliases.append("c")
    world.step()
    world.demands["chat"] = Demand(held=1)
    world.step()
    assert world.replicas["chat-1"].retiring, "there is room elsewhere"
    world.step()
    wishes = {item.replica_id: item.wish for item in world.assignments["id-h1"].replicas}
    assert wishes == {"chat-1": AssignedReplica.WISH_SLEEP, "code-1": AssignedReplica.WISH_RUN}
    world.settle()
    assert world.states() == {"chat-2": "READY", "code-1": "READY"}
