"""Which bounds a request has to keep: its key's, its user's, its tenant's."""

import json
from typing import Any

import pytest
from studio.v1.route_pb2 import AccessTable, ApiKey, Limits, Price, Tenant
from studio_gateway.call import read_call
from studio_gateway.keys import KeyRing
from studio_gateway.openai_errors import ApiError
from studio_gateway.quota.claims import OPEN_COMPLETION_TOKENS, Most, claims_for, claims_of, most_of
from studio_gateway.quota.purse import bound_of

ONE = Limits(concurrency=1)
CALL = read_call("/v1/chat/completions", "application/json", b'{"model": "m", "messages": []}', 10)


def owners(key: ApiKey, *tenants: Tenant) -> list[str]:
    ring = KeyRing.of(AccessTable(keys=[key], tenants=tenants))
    claims = claims_for(ring, ring.keys[key.id], ["m"], CALL)
    assert [bound_of(claim.bound.subject()) for claim in claims] == [claim.bound for claim in claims]
    return [claim.bound.owner for claim in claims]


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (ApiKey(id="k", tenant="lab", user="alice", limits=ONE), ["key:k", "user:lab/alice", "tenant:lab"]),
        (ApiKey(id="k", tenant="lab", user="alice"), ["user:lab/alice", "tenant:lab"]),
        (ApiKey(id="k", tenant="lab"), ["tenant:lab"]),
        (ApiKey(id="k", tenant="web", user="alice"), []),
    ],
)
def test_a_request_keeps_the_bounds_of_all_it_belongs_to(key: ApiKey, expected: list[str]):
    assert owners(key, Tenant(name="lab", limits=ONE, user_limits=ONE), Tenant(name="web")) == expected


CHAT, COMPLETIONS, MESSAGES, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/messages", "/v1/responses"


def most(path: str, **fields: Any) -> Most:
    return most_of(read_call(path, "application/json", json.dumps({"model": "m"} | fields).encode()), [])


@pytest.mark.parametrize(
    ("path", "fields", "expected"),
    [
        (CHAT, {}, OPEN_COMPLETION_TOKENS),
        (CHAT, {"max_tokens": None, "n": None}, OPEN_COMPLETION_TOKENS),
        (CHAT, {"max_tokens": 100, "n": 3}, 300),
        (CHAT, {"max_tokens": 100_000, "max_completion_tokens": 1}, 100_000),
        (CHAT, {"max_tokens": 10**30}, 10**9),
        (CHAT, {"max_tokens": -1}, OPEN_COMPLETION_TOKENS),
        (CHAT + "/batch", {"messages": [[{}, {}]] * 100, "max_tokens": 1000}, 100_000),
        (COMPLETIONS, {"max_tokens": 100_000, "max_completion_tokens": 1}, 100_000),
        (COMPLETIONS, {"max_completion_tokens": 1}, OPEN_COMPLETION_TOKENS),
        (COMPLETIONS, {"prompt": ["a"] * 1000, "max_tokens": 1000}, 1_000_000),
        (COMPLETIONS, {"prompt": [[1, 2], [3]], "max_tokens": 10, "best_of": 4, "n": 2}, 80),
        (COMPLETIONS, {"prompt": [1, 2, 3], "max_tokens": 10}, 10),
        (COMPLETIONS, {"prompt": [], "prompt_embeds": ["a", "b"], "max_tokens": 10}, 20),
        (MESSAGES, {"max_tokens": 100_000, "max_completion_tokens": 0}, 100_000),
        (RESPONSES, {"max_tokens": 1}, OPEN_COMPLETION_TOKENS),
        (RESPONSES, {"max_output_tokens": 7}, 7),
    ],
)
def test_an_answer_is_claimed_as_long_as_any_engine_may_make_it(path: str, fields: dict[str, Any], expected: int):
    assert most(path, **fields).completion == expected


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens", "max_output_tokens", "n", "best_of"])
@pytest.mark.parametrize("value", ["100000", 100.0, True, [1]])
def test_a_length_that_is_no_whole_number_is_refused(name: str, value: object):
    with pytest.raises(ApiError) as refused:
        most(CHAT, **{name: value})
    assert (refused.value.status, refused.value.param) == (400, name)


def test_each_message_of_a_batch_has_its_marks():
    long, short = ([[{}] * count] * 2 for count in (100, 1))
    assert most(CHAT + "/batch", messages=long).prompt - most(CHAT + "/batch", messages=short).prompt > 198 * 32


def test_money_is_claimed_for_the_dearest_model_that_may_answer():
    key = ApiKey(id="k", limits=Limits(money_budget_micros=10**9))
    prices = [
        Price(model="m", prompt_micros=10**6, completion_micros=10**6),
        Price(model="other", prompt_micros=3 * 10**6, completion_micros=3 * 10**6),
    ]
    ring = KeyRing.of(AccessTable(keys=[key], prices=prices))
    cheap, dear = (claims_for(ring, ring.keys["k"], names, CALL)[0].amount for names in (["m"], ["m", "other", "gone"]))
    assert dear == 3 * cheap > 0


@pytest.mark.parametrize(
    "limits",
    [Limits(token_budget=99), Limits(tokens_per_minute=99), Limits(money_budget_micros=199)],
)
def test_an_answer_longer_than_a_whole_bound_is_refused(limits: Limits):
    document = {"model": "m", "max_tokens": 50, "n": 2}
    call = read_call(CHAT, "application/json", json.dumps(document).encode())
    asked = most_of(call, [Price(completion_micros=2_000_000)])
    with pytest.raises(ApiError, match="ask for a shorter one") as refused:
        claims_of("key:k", limits, asked)
    assert (refused.value.status, refused.value.code) == (400, "larger_than_limit")


@pytest.mark.parametrize("limit", [0, 100])
def test_what_is_only_an_estimate_is_claimed_up_to_the_bound(limit: int):
    assert [claim.amount for claim in claims_of("key:k", Limits(token_budget=limit), most(CHAT))] == [limit]
    longest = most(CHAT, max_tokens=100)
    assert [claim.amount for claim in claims_of("key:k", Limits(token_budget=limit), longest)] == [limit]
