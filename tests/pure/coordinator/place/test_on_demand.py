"""Who makes room for a model that a request waits for."""

from collections.abc import Mapping
from dataclasses import replace

from builders import GIB, a_gpu, a_host
from hypothesis import given, settings
from hypothesis import strategies as st
from studio.v1.host_pb2 import HostFacts
from studio_coordinator.plan.fleet import Fleet
from studio_coordinator.plan.occupancy import Held
from studio_coordinator.plan.on_demand import Activity, MakeWay, Rules, Stay, make_way
from studio_coordinator.plan.wish import GpuNeed, Wish

IDLE = Activity(on_demand=True, idle_seconds=300.0, wake_seconds=40.0)
WISH = Wish("new", GpuNeed(1, memory_bytes=60 * GIB))


def a_full_fleet(*names: str, **changes: object) -> Fleet:
    """A host with one GPU for each replica; they serve for an hour."""
    fleet = Fleet.of(
        a_host(f"h{number}", gpus=[a_gpu(f"GPU-{number}")], facts=HostFacts(memory_bytes=64 * GIB))
        for number, _ in enumerate(names)
    )
    for number, name in enumerate(names):
        held = Held(f"{name}-1", name, 0, GpuNeed(1), (f"GPU-{number}",), serving=True, served_seconds=3600.0)
        fleet.add(replace(held, **changes), f"id-h{number}")
    return fleet


def victims(fleet: Fleet, activities: Mapping[str, Activity], waited: float = 1.0, wish: Wish = WISH) -> list[str]:
    found = make_way(fleet, wish, waited, activities)
    return [step.replica_id for step in found.steps] if isinstance(found, MakeWay) else []


def test_the_one_that_is_back_soonest_goes() -> None:
    fleet = a_full_fleet("slow", "quick")
    assert victims(fleet, {"slow-1": IDLE, "quick-1": replace(IDLE, wake_seconds=3.0)}) == ["quick-1"]


def test_the_one_that_is_asked_least_goes() -> None:
    fleet = a_full_fleet("busy", "quiet")
    assert victims(fleet, {"busy-1": replace(IDLE, requests_per_minute=30), "quiet-1": IDLE}) == ["quiet-1"]


def test_the_one_that_is_idle_longest_goes() -> None:
    fleet = a_full_fleet("now", "long")
    asked = replace(IDLE, requests_per_minute=5)
    activities = {"now-1": replace(asked, idle_seconds=20), "long-1": replace(asked, idle_seconds=3000)}
    assert victims(fleet, activities) == ["long-1"]


def test_a_model_that_had_to_make_room_often_is_spared() -> None:
    fleet = a_full_fleet("often", "never")
    activities = {"often-1": replace(IDLE, sent_away=12), "never-1": replace(IDLE, wake_seconds=60.0)}
    assert victims(fleet, activities) == ["never-1"]
    assert victims(fleet, {**activities, "often-1": IDLE}) == ["often-1"]


def test_a_higher_priority_stays_and_an_equal_one_goes() -> None:
    assert victims(a_full_fleet("a", priority=10), {"a-1": IDLE}) == []
    assert victims(a_full_fleet("a", priority=10), {"a-1": IDLE}, wish=replace(WISH, priority=10)) == ["a-1"]


def test_without_an_idle_policy_nobody_goes() -> None:
    found = make_way(a_full_fleet("a"), WISH, 1000.0, {"a-1": replace(IDLE, on_demand=False)})
    assert found == Stay({"a-1": "its deployment has no idle policy"})


def test_what_has_just_come_up_stays_however_long_others_wait() -> None:
    assert victims(a_full_fleet("a", served_seconds=30.0), {"a-1": IDLE}, waited=10_000) == []


def test_a_busy_model_stays_until_the_other_would_starve() -> None:
    fleet, activities = a_full_fleet("a"), {"a-1": replace(IDLE, requests_running=2, idle_seconds=0)}
    assert victims(fleet, activities, waited=119) == []
    assert victims(fleet, activities, waited=121) == ["a-1"]


def test_a_victim_sleeps_where_what_it_keeps_leaves_enough() -> None:
    fleet = a_full_fleet("a")
    sleeper = replace(IDLE, can_sleep=True, sleeping_gpu_bytes=2 * GIB, sleeping_host_bytes=16 * GIB)
    found = make_way(fleet, WISH, 1.0, {"a-1": sleeper})
    assert isinstance(found, MakeWay)
    assert [step.sleep for step in found.steps] == [True]
    for greedy in (replace(sleeper, sleeping_gpu_bytes=30 * GIB), replace(sleeper, sleeping_host_bytes=65 * GIB)):
        found = make_way(fleet, WISH, 1.0, {"a-1": greedy})
        assert isinstance(found, MakeWay)
        assert [step.sleep for step in found.steps] == [False]


def test_the_reason_says_who_it_is_for_and_what_it_costs() -> None:
    found = make_way(a_full_fleet("a"), WISH, 1.0, {"a-1": IDLE})
    assert isinstance(found, MakeWay)
    assert found.steps[0].reason == "makes room of 60.0 GiB a GPU for new: idle for 300 s, back in about 40 s"


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.builds(
            Activity,
            on_demand=st.booleans(),
            requests_running=st.integers(0, 2),
            idle_seconds=st.floats(0, 1000),
            requests_per_minute=st.floats(0, 100),
            can_sleep=st.booleans(),
            sent_away=st.integers(0, 10),
        ),
        min_size=1,
        max_size=6,
    ),
    st.integers(1, 2),
    st.floats(0, 500),
)
def test_only_those_that_may_go_and_no_more_than_needed(done: list[Activity], gpus: int, waited: float) -> None:
    names = [f"m{number}" for number in range(len(done))]
    host = a_host("h", gpus=[a_gpu(f"GPU-{number}", number) for number in range(len(done))])
    fleet = Fleet.of([host])
    for number, name in enumerate(names):
        held = Held(f"{name}-1", name, 0, GpuNeed(1), (f"GPU-{number}",), serving=True, served_seconds=3600.0)
        fleet.add(held, host.id)
    activities = {f"{name}-1": activity for name, activity in zip(names, done, strict=True)}
    chosen = victims(fleet, activities, waited, Wish("new", GpuNeed(gpus)))
    rules = Rules()
    may_go = {
        name
        for name, activity in activities.items()
        if activity.on_demand
        and (
            waited >= rules.starvation_seconds
            or (not activity.requests_running and activity.idle_seconds >= rules.idle_seconds)
        )
    }
    assert set(chosen) <= may_go
    assert len(chosen) == (gpus if len(may_go) >= gpus else 0)
