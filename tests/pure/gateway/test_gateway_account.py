"""What a request is charged that ended before, or without, its engine's own count."""

import pytest
from studio_gateway.account import Account
from studio_gateway.sse import EventStream

CHAT = "/v1/chat/completions"
MESSAGE_START = b'data: {"type":"message_start","message":{"usage":{"input_tokens":7,"output_tokens":1}}}\n\n'
MESSAGE_DELTA = b'data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":9}}\n\n'
# With n answers, what stands beside a piece counts one of them.
CONTINUOUS = b'data: {"choices":[{"finish_reason":"stop"}],"usage":{"prompt_tokens":7,"completion_tokens":2}}\n\n'
LAST = b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":2}}\n\n'
DONE = b"data: [DONE]\n\n"


def an_account(finish: str, *events: bytes, path: str = CHAT, status: int = 200, is_asked: bool = True) -> Account:
    stream = EventStream(strip_usage=False)
    for event in events:
        stream.feed(event)
    return Account("r", path, finish=finish, status=status, is_asked=is_asked, usage=stream.usage)


@pytest.mark.parametrize("finish", ["client_gone", "upstream_error", "timeout", "shutting_down", "gateway_error"])
@pytest.mark.parametrize("events", [(), (MESSAGE_START,), (CONTINUOUS,)])
def test_an_answer_that_broke_off_before_its_last_count_is_charged_whole(finish: str, events: tuple[bytes, ...]):
    assert an_account(finish, *events, status=499).ended_unknown


@pytest.mark.parametrize("events", [(MESSAGE_START, MESSAGE_DELTA), (CONTINUOUS, LAST), (CONTINUOUS, DONE)])
def test_who_hangs_up_after_the_last_count_is_charged_that(events: tuple[bytes, ...]):
    assert not an_account("client_gone", *events, status=499).ended_unknown


@pytest.mark.parametrize("finish", ["client_gone", "upstream_error", "timeout", "shutting_down"])
def test_what_no_engine_got_costs_nothing(finish: str):
    assert not an_account(finish, status=502, is_asked=False).ended_unknown


@pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/v1/messages", "/v1/responses", CHAT + "/batch"])
def test_a_generated_answer_without_a_count_is_charged_whole(path: str):
    assert an_account("complete", DONE, path=path).ended_unknown
    assert not an_account("complete", CONTINUOUS, path=path).ended_unknown


@pytest.mark.parametrize(("path", "status"), [("/v1/audio/speech", 200), (CHAT, 400), (CHAT, 500)])
def test_other_answers_without_a_count_cost_nothing(path: str, status: int):
    assert not an_account("complete", path=path, status=status).ended_unknown


def test_a_record_can_be_stored_whatever_the_client_said():
    account = Account("r", "/v1/\0", key_id="k", asked_model="a\0b")
    record = account._record(1.0)
    assert (record.path, record.model) == ("/v1/\ufffd", "a\ufffdb")
