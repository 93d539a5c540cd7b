"""Events that the coordinator has not stored yet."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from studio.v1.event_pb2 import Event
from studio_agent.event_queue import CAPACITY, USELESS_LINES, EventQueue


def an_event(text: str) -> Event:
    return Event(kind="replica.failed", message=text, attributes={"a": "b"})


def messages(queue: EventQueue, after: int = 0) -> list[str]:
    return [event.event.message for event in queue.after(after, 10_000)]


async def test_events_are_sent_once_they_are_on_disk_and_until_they_are_acknowledged(tmp_path: Path) -> None:
    queue = EventQueue(tmp_path / "events.jsonl")
    assert [queue.put(an_event(text)) for text in "abc"] == [1, 2, 3]
    assert messages(queue) == []
    await queue.flush()
    assert messages(queue) == ["a", "b", "c"]
    assert messages(queue, after=2) == ["c"]
    queue.ack(2)
    assert messages(queue) == ["c"]
    queue.ack(1)
    assert messages(queue) == ["c"], "an old acknowledgement changes nothing"


async def test_the_next_agent_goes_on_with_the_same_numbers(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    queue = EventQueue(path)
    for text in "abc":
        queue.put(an_event(text))
    queue.ack(1)
    await queue.flush()
    again = EventQueue(path)
    assert messages(again) == ["b", "c"]
    assert again.put(an_event("d")) == 4
    assert path.stat().st_mode & 0o777 == 0o600


async def test_a_file_cut_anywhere_loses_at_most_its_end(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    queue = EventQueue(path)
    for text in "abc":
        queue.put(an_event(text))
    await queue.flush()
    whole = path.read_bytes()
    ends = [n + 1 for n, byte in enumerate(whole) if byte == ord("\n")]
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        cut = EventQueue(path)
        expected = ["a", "b", "c"][: sum(end <= length + 1 for end in ends)]
        assert messages(cut) == expected
        cut.put(an_event("new"))
        await cut.flush()
        assert messages(EventQueue(path)) == [*expected, "new"]


async def test_a_full_queue_drops_what_is_new_and_says_so_later(tmp_path: Path) -> None:
    queue = EventQueue(tmp_path / "events.jsonl")
    for number in range(1, CAPACITY + 1):
        assert queue.put(an_event(str(number))) == number
    assert [queue.put(an_event("too much")) for _ in range(5)] == [0] * 5
    await queue.flush()
    assert queue.dropped == 5
    assert messages(queue)[0] == "1"
    queue.ack(10)
    assert queue.put(an_event("now")) == CAPACITY + 2
    await queue.flush()
    told, now = messages(queue)[-2:]
    assert told.startswith("5 events were dropped")
    assert now == "now"


async def test_the_file_does_not_grow_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    queue = EventQueue(path)
    for number in range(2 * USELESS_LINES):
        queue.ack(queue.put(an_event(str(number))))
        if number % 10 == 0:
            await queue.flush()
    await queue.flush()
    assert len(path.read_text().splitlines()) <= USELESS_LINES + 20


async def test_a_lost_file_does_not_lose_what_happened_since(tmp_path: Path) -> None:
    """The coordinator has stored up to 40; the new queue began at 1 again."""
    queue = EventQueue(tmp_path / "events.jsonl")
    queue.put(an_event("since"))
    await queue.flush()
    queue.agree(40)
    assert messages(queue) == [], "nothing is sent under a number that is not on disk"
    await queue.flush()
    assert [event.sequence for event in queue.after(40, 10)] == [41]
    assert queue.put(an_event("next")) == 42


@pytest.mark.parametrize(
    ("stored", "expected"), [(0, {1: "c", 2: "d"}), (2, {3: "c", 4: "d"}), (3, {4: "d"}), (9, {10: "c", 11: "d"})]
)
async def test_numbers_follow_on_what_the_coordinator_has(
    tmp_path: Path, stored: int, expected: dict[int, str]
) -> None:
    """2 were acknowledged; a coordinator that knows less or more than 4 has another history than we."""
    path = tmp_path / "events.jsonl"
    queue = EventQueue(path)
    queue.agree(0)
    for text in "abcd":
        queue.put(an_event(text))
    queue.ack(2)
    await queue.flush()
    for again in (queue, EventQueue(path)):
        again.agree(stored)
        await again.flush()
        assert {e.sequence: e.event.message for e in again.after(0, 10)} == expected


async def test_an_empty_queue_follows_a_coordinator_that_began_anew(tmp_path: Path) -> None:
    queue = EventQueue(tmp_path / "events.jsonl")
    queue.agree(0)
    queue.ack(queue.put(an_event("a")))
    queue.agree(0)
    assert queue.put(an_event("b")) == 1


async def test_a_full_disk_does_not_silence_the_agent(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(NotADirectoryError):
        EventQueue(tmp_path / "file" / "events.jsonl")
    folder = tmp_path / "gone"
    folder.mkdir()
    queue = EventQueue(folder / "events.jsonl")
    folder.rmdir()
    queue.put(an_event("a"))
    with pytest.raises(FileNotFoundError):
        await queue.flush()
    assert messages(queue) == ["a"]
    folder.mkdir()
    await queue.flush()
    assert messages(EventQueue(folder / "events.jsonl")) == ["a"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.just("put"), st.just("flush"), st.just("restart"), st.integers(0, 40)), max_size=40))
async def test_what_is_sent_is_what_was_put_and_not_acknowledged(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str | int]
) -> None:
    path = tmp_path_factory.mktemp("queue") / "events.jsonl"
    queue, put, acked = EventQueue(path), 0, 0
    for step in steps:
        if step == "put":
            put += 1
            assert queue.put(an_event(str(put))) == put
        elif step == "flush":
            await queue.flush()
        elif step == "restart":
            await queue.flush()
            queue = EventQueue(path)
        elif isinstance(step, int):
            queue.ack(step)
            # An acknowledgement of what was never sent means nothing.
            acked = max(acked, step if step <= put else 0)
    await queue.flush()
    assert [event.sequence for event in queue.after(0, 10_000)] == list(range(acked + 1, put + 1))
