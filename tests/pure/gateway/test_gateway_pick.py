"""Which endpoint a request gets."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from studio_gateway.affinity import prefix_of, session_key, work_of
from studio_gateway.pick import LOAD_BOUND, Picker, Wish
from studio_gateway.retry_budget import RESERVE, RetryBudget
from studio_gateway.standing import FAILURES_IN_A_ROW, SLOW_START_SECONDS
from studio_gateway.strategies import LEAST_WORK, PREFIX_AFFINITY, ROUND_ROBIN
from studio_gateway.table import Target


def target(replica: str, weight: float = 1.0, revision: int = 1) -> Target:
    return Target(replica, "http://10.0.0.1:8000", weight, "m", revision)


def names(picker: Picker, targets: list[Target], times: int = 6, now: float = 0, wish: Wish | None = None) -> set[str]:
    return {picker.pick(targets, (), now, wish or Wish()).replica_id for _ in range(times)}


def test_idle_endpoints_take_turns_and_the_least_loaded_wins():
    picker, targets = Picker(), [target("a"), target("b"), target("c")]
    assert names(picker, targets) == {"a", "b", "c"}
    picker.standings.of("a").began(1)
    picker.standings.of("c").began(1)
    assert names(picker, targets) == {"b"}


def test_work_counts_and_not_the_number_of_requests():
    picker, targets = Picker(), [target("long"), target("short")]
    picker.standings.of("long").began(work_of(400_000))
    for _ in range(10):
        picker.standings.of("short").began(work_of(100))
    assert names(picker, targets, wish=Wish(work_of(100))) == {"short"}


def test_weights_share_requests_out():
    picker, targets = Picker(), [target("big", 3), target("small", 1)]
    for _ in range(40):
        picker.standings.of(picker.pick(targets, (), 0).replica_id).began(1)
    assert picker.standings.of("big").in_flight == 30


def test_weight_nought_gets_nothing_unless_there_is_nothing_else():
    picker = Picker()
    assert names(picker, [target("a", 0), target("b")]) == {"b"}
    assert names(picker, [target("a", 0), target("b", 0)]) == {"a", "b"}


def test_round_robin_looks_at_nothing():
    picker, targets = Picker(), [target("a"), target("b"), target("c")]
    picker.standings.of("a").began(1e9)
    counts = Counter(picker.pick(targets, (), 0, Wish(strategy=ROUND_ROBIN)).replica_id for _ in range(9))
    assert counts == {"a": 3, "b": 3, "c": 3}


def test_ejection_grows_ends_and_is_forgotten_after_a_success():
    picker = Picker()
    standings, targets = picker.standings, [target("a"), target("b")]
    assert [standings.connect_failed("a", 0) for _ in range(5)] == [5, 10, 20, 40, 60]
    assert names(picker, targets, now=59) == {"b"}
    assert names(picker, targets, now=60) == {"a", "b"}
    standings.answered("a")
    assert standings.connect_failed("a", 100) == 5


def test_failures_in_a_row_eject_and_a_success_between_them_does_not():
    picker = Picker()
    standings = picker.standings
    for _ in range(3 * FAILURES_IN_A_ROW):
        assert standings.answer_failed("a", 0) == 0
        standings.answered("a")
    seconds = [standings.answer_failed("a", 0) for _ in range(3 * FAILURES_IN_A_ROW)]
    quiet = [0] * (FAILURES_IN_A_ROW - 1)
    assert seconds == [*quiet, 5, *quiet, 10, *quiet, 20]


@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.floats(0, 100), st.floats(0, 5), st.integers(1, 3)), min_size=1, max_size=8
    ),
    st.sets(st.integers(0, 7)),
    st.floats(0, 100),
    st.sampled_from([LEAST_WORK, PREFIX_AFFINITY, ROUND_ROBIN]),
    st.binary(max_size=4),
)
def test_something_is_always_picked_and_never_what_was_tried_while_there_is_another(
    states: list[tuple[int, float, float, int]], tried: set[int], now: float, strategy: str, key: bytes
):
    picker = Picker()
    targets = [target(str(number), weight, revision) for number, (_, _, weight, revision) in enumerate(states)]
    for number, (work, until, _, _) in enumerate(states):
        standing = picker.standings.of(str(number))
        standing.began(work)
        standing.ejected_until = until
    left_out = {str(number) for number in tried}
    picked = picker.pick(targets, left_out, now, Wish(1.0, strategy, session=key[:1], prefix=key))
    assert picked in targets
    if len(left_out & {one.replica_id for one in targets}) < len(targets):
        assert picked.replica_id not in left_out


def test_at_most_half_are_ejected():
    picker, targets = Picker(), [target(name) for name in "abcd"]
    for number, name in enumerate("abcd"):
        picker.standings.connect_failed(name, number)
    assert names(picker, targets, 8, now=4) == {"a", "b"}


def test_endpoints_without_a_route_are_forgotten_once_their_requests_have_ended():
    standings = Picker().standings
    standings.of("busy").began(5)
    standings.of("idle")
    standings.put_routes([["kept"]], 0)
    assert set(standings.by_replica) == {"busy", "kept"}
    standings.of("busy").ended(5)
    assert standings.of("busy").work == 0


def test_fresh_replica_beside_others_starts_slowly_and_first_replicas_do_not():
    picker = Picker()
    picker.standings.put_routes([["a", "b"]], 0)
    assert picker.standings.of("a").readiness(0) == 1
    picker.standings.put_routes([["a", "b", "new"]], 100)
    targets = [target(name) for name in ("a", "b", "new")]

    def share(now: float) -> int:
        for standing in picker.standings.by_replica.values():
            standing.work, standing.in_flight = 0.0, 0
        for _ in range(210):
            picker.standings.of(picker.pick(targets, (), now).replica_id).began(1)
        return picker.standings.of("new").in_flight

    assert share(100) == 10
    assert share(100 + SLOW_START_SECONDS / 2) == 42
    assert share(100 + SLOW_START_SECONDS) == 70


@given(st.integers(1, 99), st.integers(1, 4))
def test_canary_gets_its_share_exactly_however_slowly_requests_come(percent: int, replicas: int):
    picker = Picker()
    old = [target(f"old-{number}", (100 - percent) / replicas, 1) for number in range(replicas)]
    targets = [*old, target("new", percent, 2)]
    picked = Counter(picker.pick(targets, (), 0, route="m").replica_id for _ in range(100))
    assert picked["new"] == percent


def test_routes_keep_their_shares_apart():
    picker = Picker()
    targets = [target("old", 1, 1), target("new", 1, 2)]
    picked = [picker.pick(targets, (), 0, route=route).replica_id for route in ("m", "n", "m", "n")]
    assert picked[0] != picked[2]
    assert picked[1] != picked[3]


def test_sessions_stay_with_their_endpoint_and_their_revision():
    picker = Picker()
    targets = [target(f"old-{n}", 1, 1) for n in range(4)] + [target("new", 1, 2)]
    wishes = [Wish(1.0, session=session_key(f"user-{number}")) for number in range(500)]
    homes = [picker.pick(targets, (), 0, wish).replica_id for wish in wishes]
    assert homes == [picker.pick(targets, (), 0, wish).replica_id for wish in wishes]
    counts = Counter(homes)
    assert len(counts) == 5
    assert 60 < counts["new"] < 140


@given(st.integers(3, 8), st.integers(0, 7))
def test_a_replica_that_goes_moves_only_its_own_keys(count: int, gone: int):
    picker, targets = Picker(), [target(str(number)) for number in range(count)]
    left = [one for one in targets if one.replica_id != str(gone % count)]
    for number in range(50):
        wish = Wish(1.0, PREFIX_AFFINITY, prefix=session_key(str(number)))
        before = picker.pick(targets, (), 0, wish).replica_id
        if before != str(gone % count):
            assert picker.pick(left, (), 0, wish).replica_id == before


@pytest.mark.parametrize("others", [1, 2])
def test_what_was_sent_elsewhere_stays_where_its_cache_is_now_until_it_is_forgotten(others: int):
    picker, targets = Picker(remembered=2), [target(str(number)) for number in range(4)]

    def went(key: str, route: str = "m") -> str:
        wish = Wish(1.0, PREFIX_AFFINITY, prefix=session_key(key))
        return picker.pick(targets, (), 0, wish, route).replica_id

    home = went("talk")
    picker.standings.of(home).began(100)
    other = went("talk")
    picker.standings.of(home).ended(100)
    assert went("talk") == other != home
    assert went("talk", "another model") == home
    for number in range(others - 1):
        went(f"other {number}")
    assert went("talk") == (other if others == 1 else home)
    picker.standings.of(other).began(100)
    assert went("talk") == home, "the next in the order that every gateway has"


@given(st.lists(st.integers(0, 2), min_size=50, max_size=300), st.integers(2, 6))
def test_one_popular_prefix_never_loads_an_endpoint_far_above_the_mean(keys: list[int], replicas: int):
    picker, targets = Picker(), [target(str(number)) for number in range(replicas)]
    for key in keys:
        wish = Wish(1.0, PREFIX_AFFINITY, prefix=session_key(str(key)))
        picker.standings.of(picker.pick(targets, (), 0, wish).replica_id).began(1)
        loads = [picker.standings.of(one.replica_id).work for one in targets]
        assert max(loads) <= LOAD_BOUND * (sum(loads) / replicas + 1)


def test_turns_of_one_conversation_have_one_prefix_and_other_conversations_another():
    system = {"role": "system", "content": "x" * 10_000}
    first = [system, {"role": "user", "content": "one"}]
    later = [*first, {"role": "assistant", "content": "a"}, {"role": "user", "content": "more"}]
    other = [system, {"role": "user", "content": "two"}]
    assert prefix_of({"messages": first}) == prefix_of({"messages": later}) != prefix_of({"messages": other})
    assert prefix_of({"prompt": "abc"}) == prefix_of({"prompt": "abc", "max_tokens": 5}) != b""
    assert prefix_of({"instructions": "a", "input": "b"}) != prefix_of({"instructions": "b", "input": "b"})
    assert prefix_of({}) == prefix_of({"messages": []}) == b""


def test_affinity_keeps_conversations_where_their_cache_is():
    """Multi-turn conversations against a simulated prefix cache: far more turns find their past than in turn."""

    def hits(strategy: str) -> int:
        picker, targets = Picker(), [target(str(number)) for number in range(4)]
        seen: dict[str, set[int]] = {one.replica_id: set() for one in targets}
        found = 0
        for turn in range(5):
            for conversation in range(41):
                document = {"messages": [{"role": "user", "content": f"about {conversation}"}, *([{}] * turn)]}
                picked = picker.pick(targets, (), 0, Wish(1.0, strategy, prefix=prefix_of(document))).replica_id
                found += conversation in seen[picked]
                seen[picked].add(conversation)
        return found

    assert hits(PREFIX_AFFINITY) == 4 * 41
    assert hits(ROUND_ROBIN) <= 41


def test_retries_are_a_share_of_requests():
    budget = RetryBudget()
    assert sum(budget.spend() for _ in range(100)) == RESERVE
    retried = 0
    for _ in range(100):
        budget.earn()
        retried += budget.spend()
    assert 19 <= retried <= 21
