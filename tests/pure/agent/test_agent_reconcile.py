"""What to do next."""

from dataclasses import replace

from fakes.agent_records import NOW, a_failure, a_record, an_assignment, an_engine, assigned
from hypothesis import given, settings
from hypothesis import strategies as st
from studio.v1.assignment_pb2 import AssignedReplica, Assignment
from studio_agent.plan.lifecycle import STARTING, TAKING_MEMORY, advance
from studio_agent.plan.reconcile import (
    Action,
    Circumstances,
    Forget,
    Restart,
    Sleep,
    Start,
    Stop,
    Wait,
    Wake,
    next_due,
    plan,
)
from studio_agent.plan.record import ReplicaRecord, State
from studio_agent.plan.restarts import record_restart


def kinds(actions: list[Action]) -> list[tuple[type, str]]:
    return [
        (type(a), a.assigned.replica_id if isinstance(a, Wait | Start | Restart) else a.replica_id) for a in actions
    ]


def records(*all_records: ReplicaRecord) -> dict[str, ReplicaRecord]:
    return {record.replica_id: record for record in all_records}


def test_an_unknown_assignment_starts_and_stops_nothing() -> None:
    assert plan(None, records(a_record()), NOW) == []


def test_what_is_assigned_starts_and_what_is_not_stops() -> None:
    actions = plan(an_assignment(assigned("new-1")), records(a_record(assigned("old-1"))), NOW)
    assert kinds(actions) == [(Stop, "old-1"), (Start, "new-1")]
    assert all(action.reason for action in actions)


def test_another_generation_waits_for_the_end_of_the_old_one() -> None:
    desired = an_assignment(assigned("demo-1", 2))
    assert kinds(plan(desired, records(a_record()), NOW)) == [(Stop, "demo-1")]
    assert plan(desired, records(a_record(state=State.STATE_STOPPING)), NOW) == []
    assert kinds(plan(desired, records(a_record(state=State.STATE_STOPPED)), NOW)) == [(Start, "demo-1")]


def test_a_generation_that_was_given_twice_is_another_engine_on_other_gpus() -> None:
    """As after a database was restored from a backup."""
    old = a_record(assigned("demo-1", 1, "GPU-a"))
    (stop,) = plan(an_assignment(assigned("demo-1", 1, "GPU-b")), records(old), NOW)
    assert isinstance(stop, Stop)
    assert not plan(an_assignment(assigned("demo-1", 1, "GPU-a")), records(old), NOW)


def test_a_stopped_replica_is_shown_for_a_moment() -> None:
    stopped = records(a_record(state=State.STATE_STOPPED))
    assert plan(an_assignment(), stopped, NOW + 1) == []
    assert kinds(plan(an_assignment(), stopped, NOW + 2)) == [(Forget, "demo-1")]
    assert next_due(stopped, NOW + 1) == NOW + 2


def test_a_failed_replica_waits_for_its_time_and_for_its_leftovers() -> None:
    desired = an_assignment(assigned())
    failed = a_record(state=State.STATE_FAILED, failure=a_failure(), retry_at=NOW + 4)
    assert plan(desired, records(failed), NOW + 3) == []
    assert kinds(plan(desired, records(failed), NOW + 4)) == [(Restart, "demo-1")]
    assert plan(desired, records(replace(failed, engine=an_engine())), NOW + 4) == []
    assert plan(desired, records(replace(failed, retry_at=None, gave_up=True)), NOW + 4) == []
    assert next_due(records(failed), NOW) == NOW + 4


def test_starts_are_serialised_on_a_shared_gpu() -> None:
    first, second = assigned("a-1", 1, "G", share=0.4), assigned("b-1", 1, "G", share=0.4)
    actions = plan(an_assignment(first, second), {}, NOW)
    assert kinds(actions) == [(Start, "a-1"), (Wait, "b-1")]
    assert "a-1 has started" in actions[1].reason
    assert kinds(plan(an_assignment(first, second), records(a_record(first)), NOW)) == [(Start, "b-1")]


def test_a_gpu_that_is_not_shared_is_not_given_twice() -> None:
    first, second = assigned("a-1", 1, "G"), assigned("b-1", 1, "G", share=0.5)
    actions = plan(an_assignment(first, second), records(a_record(first)), NOW)
    assert kinds(actions) == [(Wait, "b-1")]
    assert "held by a-1" in actions[0].reason


def test_a_gpu_is_free_only_when_its_last_engine_is_gone() -> None:
    old, new = assigned("a-1", 1, "G"), assigned("b-1", 1, "G")
    unkillable = a_record(old, State.STATE_STOPPING)
    leftovers = a_record(old, State.STATE_FAILED, engine=an_engine(), failure=a_failure(), gave_up=True)
    for record in (unkillable, leftovers):
        actions = plan(an_assignment(new), records(record), NOW)
        assert (Wait, "b-1") in kinds(actions)
        assert not any(isinstance(action, Start) for action in actions)


def test_nothing_starts_beside_an_engine_whose_gpus_are_not_known() -> None:
    unknown = a_record(assigned("old-1", 0), holds_unknown=True)
    actions = plan(an_assignment(assigned("new-1", 1, "G")), records(unknown), NOW)
    assert kinds(actions) == [(Stop, "old-1"), (Wait, "new-1")]


def test_waiting_is_said_once() -> None:
    first, second = assigned("a-1", 1, "G"), assigned("b-1", 1, "G")
    (wait,) = plan(an_assignment(first, second), records(a_record(first)), NOW)
    assert isinstance(wait, Wait)
    waiting = a_record(second, State.STATE_PENDING, reason=wait.reason)
    assert plan(an_assignment(first, second), records(a_record(first), waiting), NOW) == []


def to_sleep(replica: AssignedReplica) -> AssignedReplica:
    replica.wish = AssignedReplica.WISH_SLEEP
    return replica


def test_what_is_to_sleep_sleeps_once_it_serves_and_wakes_when_it_is_to_run() -> None:
    sleeping, running = an_assignment(to_sleep(assigned())), an_assignment(assigned())
    assert kinds(plan(sleeping, {}, NOW)) == [(Start, "demo-1")]
    assert plan(sleeping, records(a_record(state=State.STATE_STARTING)), NOW) == []
    assert kinds(plan(sleeping, records(a_record()), NOW)) == [(Sleep, "demo-1")]
    rests = records(a_record(state=State.STATE_SLEEPING, engine=an_engine(), asleep=True, sleep_level=1))
    assert plan(sleeping, rests, NOW) == []
    assert kinds(plan(running, rests, NOW)) == [(Wake, "demo-1")]
    assert plan(sleeping, records(a_record(state=State.STATE_WAKING, engine=an_engine())), NOW) == []


def test_what_falls_asleep_is_woken_when_it_was_not_told_yet_or_sleeps() -> None:
    running = an_assignment(assigned())
    drains = a_record(state=State.STATE_SLEEPING, engine=an_engine())
    assert kinds(plan(running, records(drains), NOW)) == [(Wake, "demo-1")]
    assert plan(running, records(replace(drains, sleep_level=1)), NOW) == [], "what it is told now might overtake that"
    assert kinds(plan(running, records(replace(drains, sleep_level=1, asleep=True)), NOW)) == [(Wake, "demo-1")]


def test_what_sleeps_sleeps_deeper_when_that_is_wished_and_never_less_deep() -> None:
    light = a_record(state=State.STATE_SLEEPING, engine=an_engine(), asleep=True, sleep_level=1)
    wish = to_sleep(assigned())
    wish.sleep_level = 2
    assert plan(an_assignment(wish), records(light), NOW) == [Sleep("demo-1", "it is to sleep deeper", 2)]
    assert plan(an_assignment(wish), records(replace(light, sleep_level=2)), NOW) == []
    wish.sleep_level = 1
    assert plan(an_assignment(wish), records(replace(light, sleep_level=2)), NOW) == []


def test_who_sleeps_leaves_its_gpu_to_others_and_who_falls_asleep_is_waited_for() -> None:
    sleeper, new = to_sleep(assigned("a-1", 1, "G")), assigned("b-1", 1, "G")
    rests = a_record(sleeper, State.STATE_SLEEPING, engine=an_engine(), asleep=True, sleep_level=1)
    assert kinds(plan(an_assignment(sleeper, new), records(rests), NOW)) == [(Start, "b-1")]
    (wait,) = plan(an_assignment(sleeper, new), records(replace(rests, asleep=False)), NOW)
    assert isinstance(wait, Wait)
    assert "waits until a-1 has left GPU G" in wait.reason


def test_what_cannot_sleep_serves() -> None:
    wish = an_assignment(to_sleep(assigned()))
    assert plan(wish, records(a_record()), NOW, Circumstances(sleepless={"demo-1"})) == []


def test_waking_and_starting_on_one_gpu_take_turns() -> None:
    asleep, new = assigned("a-1", 1, "G", share=0.5), assigned("b-1", 1, "G", share=0.5)
    rests = a_record(asleep, State.STATE_SLEEPING, engine=an_engine(), asleep=True, sleep_level=1)
    assert kinds(plan(an_assignment(asleep, new), records(rests), NOW)) == [(Wake, "a-1"), (Wait, "b-1")]
    assert kinds(plan(an_assignment(new, asleep), records(rests), NOW)) == [(Start, "b-1")]
    # One that goes on sleeping takes nothing.
    assert kinds(plan(an_assignment(to_sleep(asleep), new), records(rests), NOW)) == [(Start, "b-1")]


def test_nothing_begins_on_a_quarantined_gpu_and_what_serves_there_stays() -> None:
    bad = Circumstances(barred={"G": "it fell off its bus"})
    replica = assigned("a-1", 1, "G")
    (wait,) = plan(an_assignment(replica), {}, NOW, bad)
    assert isinstance(wait, Wait)
    assert "it fell off its bus" in wait.reason
    assert plan(an_assignment(replica), records(a_record(replica)), NOW, bad) == []
    failed = a_record(replica, State.STATE_FAILED, failure=a_failure(), retry_at=NOW - 1)
    assert plan(an_assignment(replica), records(failed), NOW, bad) == []
    assert kinds(plan(an_assignment(replica), records(failed), NOW)) == [(Restart, "a-1")]
    rests = a_record(replica, State.STATE_SLEEPING, engine=an_engine())
    assert plan(an_assignment(replica), records(rests), NOW, bad) == []


def a_replica(number: int, generation: int, gpus: list[str], share: float | None, *, sleeps: bool) -> AssignedReplica:
    replica = assigned(f"m-{number}", generation, *gpus, share=share)
    return to_sleep(replica) if sleeps else replica


GPUS = st.lists(st.sampled_from(["G0", "G1", "G2"]), unique=True, max_size=2)
SHARES = st.sampled_from([None, 0.5])


@st.composite
def histories(draw: st.DrawFn) -> list[Assignment]:
    """Assignments as a coordinator gives them: one generation of a replica has one place, only its wish may change."""
    kinds = {(number, generation): (draw(GPUS), draw(SHARES)) for number in range(1, 5) for generation in (1, 2)}
    replicas = st.builds(
        lambda kind, sleeps: a_replica(*kind, *kinds[kind], sleeps=sleeps),
        st.sampled_from(sorted(kinds)),
        st.booleans(),
    )
    documents = st.lists(replicas, max_size=4, unique_by=lambda replica: replica.replica_id).map(
        lambda chosen: an_assignment(*chosen)
    )
    return draw(st.lists(documents, min_size=1, max_size=4))


def carry_out(known: dict[str, ReplicaRecord], action: Action, now: float) -> None:
    """What an obedient host would do with the action, up to where it takes time."""
    match action:
        case Wait(replica, reason):
            known[replica.replica_id] = ReplicaRecord(replica, State.STATE_PENDING, reason, now)
        case Start(replica, reason):
            known[replica.replica_id] = ReplicaRecord(replica, State.STATE_PREPARING, reason, now)
        case Restart(replica, reason):
            restarted = record_restart(known[replica.replica_id], now)
            known[replica.replica_id] = advance(restarted, State.STATE_PREPARING, reason, now)
        case Stop(name, reason):
            state = State.STATE_STOPPED if known[name].state == State.STATE_PENDING else State.STATE_STOPPING
            if known[name].state == State.STATE_READY:
                state = State.STATE_DRAINING
            # A sleeper that goes has held no GPU since it slept.
            engine = None if known[name].asleep else known[name].engine
            known[name] = advance(known[name], state, reason, now, engine=engine)
        case Sleep(name, reason):
            known[name] = advance(known[name], State.STATE_SLEEPING, reason, now)
        case Wake(name, reason):
            known[name] = advance(known[name], State.STATE_WAKING, reason, now)
        case Forget(name, _):
            del known[name]


def time_passes(known: dict[str, ReplicaRecord], now: float) -> None:
    """Everything under way comes to its good end."""
    for name, record in list(known.items()):
        if record.state in STARTING:
            engine = an_engine(token=f"{name}.{record.generation}.x")
            if record.state == State.STATE_PREPARING:
                record = advance(record, State.STATE_STARTING, "loads", now, engine=engine)  # noqa: PLW2901 - one step each
            known[name] = advance(record, State.STATE_READY, "up", now)
        elif record.state == State.STATE_SLEEPING:
            known[name] = replace(record, asleep=True, sleep_level=1)
        elif record.state == State.STATE_WAKING:
            known[name] = advance(record, State.STATE_READY, "awake", now)
        elif record.state == State.STATE_DRAINING:
            known[name] = advance(record, State.STATE_STOPPING, "drained", now)
        elif record.state == State.STATE_STOPPING:
            known[name] = advance(record, State.STATE_STOPPED, "gone", now, engine=None)


def assert_gpus_are_held_rightly(known: dict[str, ReplicaRecord]) -> None:
    holders: dict[str, list[ReplicaRecord]] = {}
    for record in known.values():
        if (record.engine is not None and not record.asleep) or record.state in STARTING:
            for uuid in record.assigned.gpu_uuids:
                holders.setdefault(uuid, []).append(record)
    for held in holders.values():
        if len(held) > 1:
            assert all(record.assigned.recipe.resources.gpu.HasField("share") for record in held)
            assert sum(record.state in TAKING_MEMORY for record in held) <= 1


@settings(max_examples=300)
@given(histories(), st.data())
def test_any_history_ends_in_a_fixed_point_and_no_gpu_is_ever_held_wrongly(
    history: list[Assignment], data: st.DataObject
) -> None:
    known: dict[str, ReplicaRecord] = {}
    now = NOW
    for document in history:
        for _ in range(data.draw(st.integers(0, 3))):
            for action in plan(document, known, now):
                carry_out(known, action, now)
                assert_gpus_are_held_rightly(known)
            if data.draw(st.booleans()):
                time_passes(known, now)
                now += 3
    last = history[-1]
    for _ in range(30):
        for action in plan(last, known, now):
            carry_out(known, action, now)
            assert_gpus_are_held_rightly(known)
        time_passes(known, now)
        now += 3
    assert plan(last, known, now) == []
    assert set(known) == {replica.replica_id for replica in last.replicas}
    for replica in last.replicas:
        rests = replica.wish == AssignedReplica.WISH_SLEEP
        end = State.STATE_SLEEPING if rests else State.STATE_READY
        record = known[replica.replica_id]
        # One that is to wake sleeps on while others have its GPUs.
        waits_asleep = record.asleep and any(
            set(other.assigned.gpu_uuids) & set(replica.gpu_uuids) and not other.asleep
            for other in known.values()
            if other is not record
        )
        assert record.state in (end, State.STATE_PENDING) or waits_asleep
