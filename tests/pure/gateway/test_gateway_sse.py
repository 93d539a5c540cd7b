"""Event streams as bytes: no cut of the network changes what comes out."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from studio_gateway import sse
from studio_gateway.sse import EventStream, EventTooLongError

USAGE = {"prompt_tokens": 7, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 3}}
EXTRA = {"choices": [], "usage": USAGE}


def an_event(document: object, end: bytes = b"\n") -> bytes:
    return b"data: " + json.dumps(document).encode() + end + end


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


def through(stream: EventStream, parts: list[bytes]) -> bytes:
    return b"".join(map(stream.feed, parts)) + stream.finished()


line_ends = st.sampled_from([b"\n", b"\r\n"])
documents = st.one_of(
    st.just(EXTRA),
    st.fixed_dictionaries(
        {"choices": st.lists(st.dictionaries(st.text(max_size=5), st.text(max_size=20)), max_size=2)}
    ),
    st.fixed_dictionaries({"usage": st.one_of(st.none(), st.just(USAGE)), "choices": st.just([{}])}),
    st.text(max_size=30),
)
events = st.one_of(
    st.builds(an_event, documents, line_ends),
    st.sampled_from(
        [b": comment\n\n", b"event: x\r\nid: 1\r\ndata: {}\r\n\r\n", b"data: [DONE]\n\n", b"\n", b"\r\n\r\n"]
    ),
)
streams = st.lists(events, max_size=12).map(b"".join)
cuts = st.lists(st.integers(min_value=0, max_value=10_000), max_size=30)


@given(streams, cuts)
def test_everything_passes_unchanged_when_nothing_is_to_be_taken_out(data: bytes, at: list[int]):
    assert through(EventStream(strip_usage=False), pieces(data, at)) == data


@given(streams, cuts)
def test_cuts_change_neither_the_output_nor_what_is_read(data: bytes, at: list[int]):
    whole, cut = EventStream(strip_usage=True), EventStream(strip_usage=True)
    assert through(cut, pieces(data, at)) == through(whole, [data])
    assert (cut.usage, cut.finish, cut.is_done) == (whole.usage, whole.finish, whole.is_done)


@given(st.binary(max_size=300), cuts)
def test_any_bytes_at_all_pass(data: bytes, at: list[int]):
    assert through(EventStream(strip_usage=False), pieces(data, at)) == data


@given(st.lists(documents.filter(lambda document: document != EXTRA), max_size=8), st.integers(0, 8), line_ends, cuts)
def test_the_extra_event_and_only_it_is_taken_out(others: list[object], place: int, end: bytes, at: list[int]):
    kept = [an_event(document, end) for document in others]
    place = min(place, len(kept))
    data = b"".join([*kept[:place], an_event(EXTRA, end), *kept[place:]])
    assert through(EventStream(strip_usage=True), pieces(data, at)) == b"".join(kept)


def test_only_whole_events_come_out():
    stream = EventStream(strip_usage=True)
    assert stream.feed(b'data: {"a') == b""
    assert stream.feed(b'": 1}\n') == b""
    assert stream.feed(b"\ndata: half") == b'data: {"a": 1}\n\n'
    assert stream.finished() == b"data: half"


def test_usage_finish_and_done_are_read():
    stream = EventStream(strip_usage=False)
    stream.feed(an_event({"choices": [{"finish_reason": None, "delta": {"content": '"finish_reason":"wrong"'}}]}))
    assert stream.finish == ""
    stream.feed(an_event({"choices": [{"finish_reason": "length"}]}) + an_event(EXTRA) + b"data: [DONE]\n\n")
    assert (stream.usage.prompt, stream.usage.completion, stream.usage.cached) == (7, 2, 3)
    assert (stream.finish, stream.is_done) == ("length", True)


def test_anthropic_and_responses_streams_are_counted():
    stream = EventStream(strip_usage=True)
    start = {
        "type": "message_start",
        "message": {"usage": {"input_tokens": 5, "cache_read_input_tokens": 4, "output_tokens": 1}},
    }
    delta = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 9}}
    assert stream.feed(an_event(start) + an_event(delta)) == an_event(start) + an_event(delta)
    assert (stream.usage.prompt, stream.usage.cached, stream.usage.completion) == (9, 4, 9)
    assert stream.finish == "end_turn"
    stream = EventStream(strip_usage=True)
    stream.feed(
        an_event({"type": "response.completed", "response": {"usage": {"input_tokens": 5, "output_tokens": 6}}})
    )
    assert (stream.usage.prompt, stream.usage.completion) == (5, 6)


def test_usage_in_every_event_leaves_the_last_word_and_is_not_taken_out():
    data = b"".join(an_event({"choices": [{"index": 0}], "usage": {"completion_tokens": n}}) for n in (1, 2, 3))
    stream = EventStream(strip_usage=True)
    assert stream.feed(data) == data
    assert stream.usage.completion == 3


def test_endless_event_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sse, "LONGEST_EVENT_BYTES", 1000)
    stream = EventStream(strip_usage=False)
    stream.feed(b"x" * 1000)
    with pytest.raises(EventTooLongError):
        stream.feed(b"x")
