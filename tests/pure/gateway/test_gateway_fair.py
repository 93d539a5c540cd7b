"""A bounded queue that no tenant fills for the others."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from studio_gateway.fair import FairQueue, QueueFullError


def taken(queue: FairQueue[str], count: int) -> list[str]:
    return [queue.take() for _ in range(count)]


def test_tenants_take_turns_and_each_keeps_its_order() -> None:
    queue: FairQueue[str] = FairQueue(10)
    for item in ("a1", "a2", "a3", "b1", "b2"):
        queue.offer(item[0], item)
    assert taken(queue, 5) == ["a1", "b1", "a2", "b2", "a3"]
    with pytest.raises(IndexError):
        queue.take()


def test_twice_the_weight_is_twice_the_turns() -> None:
    queue: FairQueue[str] = FairQueue(100)
    for number in range(30):
        queue.offer("heavy", f"h{number}", weight=2.0)
        queue.offer("light", f"l{number}")
    assert Counter(item[0] for item in taken(queue, 30)) == {"h": 20, "l": 10}


def test_to_come_back_at_once_is_no_credit() -> None:
    queue: FairQueue[str] = FairQueue(100)
    for number in range(20):
        queue.offer("patient", f"p{number}")
    queue.offer("eager", "e")
    order = []
    for _ in range(20):
        item = queue.take()
        order.append(item[0])
        if item == "e":
            queue.offer("eager", "e")
    assert Counter(order) == {"p": 10, "e": 10}


def test_when_it_is_full_the_longest_line_gives_up_its_last() -> None:
    queue: FairQueue[str] = FairQueue(3)
    for item in ("a1", "a2", "a3"):
        assert queue.offer("a", item) is None
    assert queue.offer("b", "b1") == "a3"
    with pytest.raises(QueueFullError):
        queue.offer("b", "b2")
    with pytest.raises(QueueFullError):
        queue.offer("a", "a4")
    assert taken(queue, 3) == ["a1", "b1", "a2"]


def test_who_leaves_is_forgotten() -> None:
    queue: FairQueue[str] = FairQueue(3)
    queue.offer("a", "a1")
    queue.offer("a", "a2")
    assert queue.remove("a", "a1")
    assert not queue.remove("a", "a1")
    assert not queue.remove("b", "a2")
    assert len(queue) == 1
    assert queue.take() == "a2"


@given(
    st.integers(0, 6),
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([0.5, 1.0, 3.0]), st.booleans()), max_size=60),
)
def test_nothing_is_lost_or_doubled_and_the_bound_holds(limit: int, steps: list[tuple[str, float, bool]]) -> None:
    queue: FairQueue[tuple[str, int]] = FairQueue(limit)
    inside: dict[str, list[tuple[str, int]]] = {"a": [], "b": [], "c": []}
    for number, (tenant, weight, takes) in enumerate(steps):
        if takes and len(queue):
            item = queue.take()
            assert inside[item[0]].pop(0) == item, "in the order of its tenant"
            continue
        try:
            displaced = queue.offer(tenant, (tenant, number), weight)
        except QueueFullError:
            assert len(queue) == limit
            continue
        inside[tenant].append((tenant, number))
        if displaced is not None:
            assert displaced[0] != tenant
            assert inside[displaced[0]].pop() == displaced, "the last of its line"
        assert len(queue) == sum(map(len, inside.values())) <= limit
