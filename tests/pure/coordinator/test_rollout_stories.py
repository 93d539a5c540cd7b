"""Changes of revision, told as short stories."""

import pytest
from fakes.world import World, stamp
from google.protobuf.duration_pb2 import Duration
from studio.v1.deployment_pb2 import Deployment
from studio.v1.replica_pb2 import Replica
from studio_coordinator.plan.canary import Figures, Watched
from studio_coordinator.plan.rollout import PAUSED, ROLLED_BACK, SURGE, moved

GOOD = Watched(seconds=400, old=Figures(300, 1, 300, 0.2), new=Figures(40, 0, 40, 0.25))
FAILING = Watched(seconds=30, old=Figures(300, 1, 300, 0.2), new=Figures(40, 9, 40, 0.25))
SLOW = Watched(seconds=400, old=Figures(300, 0, 300, 0.2), new=Figures(40, 0, 40, 0.9))


def a_world(replicas: int = 3, gpus: int = 6, *, canary: float = 0.0, **policy: object) -> World:
    """One host that serves ``chat`` r1; the policy is the rollout's."""
    world = World(hosts=1, gpus=gpus)
    name(world, 1, replicas, canary=canary, **policy)
    world.settle()
    return world


def name(world: World, revision: int, replicas: int = 3, *, canary: float = 0.0, **policy: object) -> Deployment:
    """Have the manifest name a revision."""
    deployment = world.deploy("chat", replicas=replicas, revision=revision)
    if canary:
        deployment.spec.rollout.canary.share = canary
        getattr(deployment.spec.rollout.canary, "for").CopyFrom(Duration(seconds=300))
    for key, value in policy.items():
        setattr(deployment.spec.rollout, key, value)
    return deployment


def revisions(world: World) -> list[int]:
    """Of the replicas that serve."""
    return sorted(world.replicas[name].recipe_revision for name in world.endpoints("chat"))


def order(world: World, phase: int, reason: str = "an operator said so") -> None:
    """An operator's word."""
    deployment = world.deployments["chat"]
    if phase == SURGE:
        deployment.tries += 1
    deployment.rollout.CopyFrom(moved(deployment.rollout, phase, reason, stamp(world.now), "ann"))


def fail_new(world: World, revision: int = 2) -> None:
    """The engines of the new revision do not come up."""
    world.obey()
    for host in world.hosts:
        for replica_id in host.running:
            if world.replicas[replica_id].recipe_revision == revision:
                host.step(replica_id, Replica.STATE_FAILED)
    world.step()


def test_without_a_canary_replicas_are_replaced_one_by_one_and_never_fewer_serve() -> None:
    world = a_world()
    name(world, 2)
    while not (decided := world.step()).is_empty:
        assert len(revisions(world)) >= 3
        assert len([row for row in world.replicas.values() if not row.retiring]) <= 4
        world.obey()
        assert decided is not None
    assert revisions(world) == [2, 2, 2]
    assert world.phase("chat") == "done"
    assert "chat r1 → r2 done: every replica is of r2" in world.events


def test_a_canary_gets_its_share_and_nothing_is_replaced_while_it_is_watched() -> None:
    world = a_world(canary=0.1)
    name(world, 2, canary=0.1)
    world.settle()
    assert world.phase("chat") == "canary"
    assert revisions(world) == [1, 1, 1, 2]
    weights = world.weights("chat")
    assert weights.pop("chat-4") / (sum(weights.values()) + 1 / 3) == pytest.approx(0.1)


def test_a_canary_that_does_well_is_followed_by_the_others() -> None:
    world = a_world(canary=0.1)
    name(world, 2, canary=0.1)
    world.settle()
    world.watches = {"chat": GOOD}
    world.settle()
    assert revisions(world) == [2, 2, 2]
    assert world.phase("chat") == "done"
    assert world.deployments["chat"].rollout.new_figures.requests == 40
    assert set(world.weights("chat").values()) == {1.0}


@pytest.mark.parametrize(
    ("watched", "reason"), [(FAILING, "9 of 40 requests failed"), (SLOW, "first token after 0.9 s")]
)
def test_a_canary_that_does_badly_is_rolled_back_and_the_old_one_served_all_the_time(
    watched: Watched, reason: str
) -> None:
    world = a_world(canary=0.1)
    name(world, 2, canary=0.1)
    world.settle()
    world.watches = {"chat": watched}
    world.step()
    assert revisions(world) == [1, 1, 1]
    world.settle()
    assert world.phase("chat") == "rolled back"
    assert sorted(row.recipe_revision for row in world.replicas.values()) == [1, 1, 1]
    rollout = world.deployments["chat"].rollout
    assert reason in rollout.reason
    assert rollout.reason.endswith("r1 kept serving")


def test_a_revision_that_does_not_start_is_rolled_back_and_stays_so_until_another_is_named() -> None:
    world = a_world()
    name(world, 2)
    world.step()
    fail_new(world)
    assert world.phase("chat") == "rolled back"
    world.settle()
    assert revisions(world) == [1, 1, 1]
    assert all(row.state == Replica.STATE_READY for row in world.replicas.values())
    # The manifest is applied again, as it was.
    name(world, 2)
    world.settle()
    assert revisions(world) == [1, 1, 1]
    name(world, 3)
    world.settle()
    assert revisions(world) == [3, 3, 3]


def test_what_was_rolled_back_can_be_tried_again() -> None:
    world = a_world()
    name(world, 2)
    world.step()
    fail_new(world)
    world.settle()
    order(world, SURGE)
    world.settle()
    assert revisions(world) == [2, 2, 2]


def test_with_on_failure_pause_both_stay_and_resume_tries_the_failed_one_anew() -> None:
    world = a_world(on_failure="pause")
    name(world, 2, on_failure="pause")
    world.step()
    fail_new(world)
    world.settle()
    assert world.phase("chat") == "paused"
    assert world.states() == {"chat-1": "READY", "chat-2": "READY", "chat-3": "READY", "chat-4": "FAILED"}
    order(world, SURGE)
    world.settle()
    assert revisions(world) == [2, 2, 2]


def test_a_paused_rollout_stands_still_and_a_lost_replica_is_replaced_by_the_old_revision() -> None:
    world = World(hosts=3, gpus=2)
    name(world, 1, canary=0.2)
    world.settle()
    name(world, 2, canary=0.2)
    world.settle()
    assert revisions(world) == [1, 1, 1, 2]
    order(world, PAUSED)
    world.watches = {"chat": GOOD}
    assert world.step().is_empty
    old = next(row for row in world.replicas.values() if row.recipe_revision == 1)
    world.silence(int(old.host_name.removeprefix("h")))
    world.wait(700)
    world.step()
    world.settle()
    assert revisions(world).count(1) == 3


def test_paused_in_the_middle_of_replacing_keeps_the_mix() -> None:
    world = a_world()
    name(world, 2)
    while revisions(world) != [1, 1, 2]:
        world.step()
        world.obey()
    order(world, PAUSED)
    world.settle()
    mix = revisions(world)
    assert mix == [1, 1, 2, 2], "what was coming came, and nothing went"
    world.wait(10_000)
    world.settle()
    assert revisions(world) == mix


def test_undo_after_it_was_done_goes_back_one_by_one_though_the_manifest_names_the_new_one() -> None:
    world = a_world()
    name(world, 2)
    world.settle()
    order(world, ROLLED_BACK)
    while not world.step().is_empty:
        assert len(revisions(world)) >= 3
        world.obey()
    assert revisions(world) == [1, 1, 1]
    name(world, 2)
    world.settle()
    assert revisions(world) == [1, 1, 1]


def test_a_third_revision_during_a_canary_begins_from_the_one_that_serves() -> None:
    world = a_world(canary=0.1)
    name(world, 2, canary=0.1)
    world.settle()
    name(world, 3, canary=0.1)
    world.settle()
    assert revisions(world) == [1, 1, 1, 3]
    rollout = world.deployments["chat"].rollout
    assert (rollout.from_revision, rollout.to_revision) == (1, 3)


def test_naming_the_old_revision_again_ends_the_rollout() -> None:
    world = a_world(canary=0.1)
    name(world, 2, canary=0.1)
    world.settle()
    name(world, 1, canary=0.1)
    world.settle()
    assert revisions(world) == [1, 1, 1]
    name(world, 2, canary=0.1)
    world.settle()
    assert revisions(world) == [1, 1, 1, 2]


def test_without_room_for_a_surge_it_waits_with_the_reason_unless_the_old_one_may_go_first() -> None:
    world = a_world(replicas=2, gpus=2)
    name(world, 2, replicas=2)
    world.settle()
    assert revisions(world) == [1, 1]
    assert "no host fits" in world.replicas["chat-3"].state_reason
    name(world, 2, replicas=2, drain_first_allowed=True)
    world.settle()
    assert revisions(world) == [2, 2]


def test_the_old_one_does_not_go_first_where_no_room_would_come_of_it() -> None:
    world = a_world(replicas=2, gpus=2, drain_first_allowed=True)
    name(world, 2, replicas=2, drain_first_allowed=True)
    world.recipes["chat", 2].resources.gpu.count.value = 4
    world.settle()
    assert revisions(world) == [1, 1]


def test_a_revision_that_drained_first_and_failed_gives_the_room_back() -> None:
    world = a_world(replicas=1, gpus=1, drain_first_allowed=True)
    name(world, 2, replicas=1, drain_first_allowed=True)
    while "chat-2" not in world.hosts[0].running:
        world.step()
        for host in world.hosts:
            if (
                host.host.id in world.assignments
                and world.assignments[host.host.id].generation > host.assignment.generation
            ):
                host.take(world.assignments[host.host.id])
        world.acknowledged = world.table.version
    world.hosts[0].step("chat-2", Replica.STATE_FAILED)
    world.step()
    world.settle()
    assert world.phase("chat") == "rolled back"
    assert revisions(world) == [1]


def test_what_does_not_serve_is_replaced_without_a_rollout() -> None:
    world = World(hosts=1, gpus=1)
    name(world, 1, replicas=1)
    world.step()
    fail_new(world, revision=1)
    name(world, 2, replicas=1)
    world.settle()
    assert revisions(world) == [2]
    assert not world.deployments["chat"].HasField("rollout")


def test_a_change_of_the_recipe_s_name_is_a_rollout_too() -> None:
    world = a_world()
    deployment = name(world, 1)
    world.recipes["other", 1] = world.recipes["chat", 1]
    deployment.spec.recipe = "other"
    world.settle()
    assert {row.recipe_name for row in world.replicas.values()} == {"other"}
    rollout = world.deployments["chat"].rollout
    assert (rollout.from_recipe, rollout.to_recipe, world.phase("chat")) == ("chat", "other", "done")
