"""Keys, route tables, headers and errors: pure decisions."""

import hmac
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from studio.v1.route_pb2 import AccessTable, ApiKey, Endpoint, ProviderRoute, Route, RouteTable
from studio_gateway import openai_errors
from studio_gateway.headers import for_client, for_engine, request_id_of
from studio_gateway.keys import Key, KeyRing, presented_key
from studio_gateway.models import find, usable_names
from studio_gateway.table import Routes, UnsoundTableError, refusal_of_access, refusal_of_routes
from studio_gateway.usage import Usage, UsageSearch

SECRET = "s" * 43
KEY = f"sk-abc123abc123-{SECRET}"
URL = "http://10.0.0.1:8000"


def ring(key: str = KEY, **fields: object) -> KeyRing:
    row = ApiKey(id=key.split("-")[1], hash=hmac.digest(b"p", key.encode(), "sha256"), **fields)
    return KeyRing.of(AccessTable(version=1, pepper=b"p", keys=[row]))


def key(*models: str, tenant: str = "") -> Key:
    return Key(id="k", tenant=tenant, models=frozenset(models), hash=b"", expires_at=None, revoked_at=None)


def test_right_key_is_found_and_its_secret_is_nowhere():
    keys = ring()
    found = keys.find(KEY)
    assert found is not None
    assert found.id == "abc123abc123"
    assert SECRET not in repr(keys)


@given(st.text(max_size=80))
def test_no_other_text_is_a_key(text: str):
    assert ring().find(text) is None
    assert ring().find(KEY + text) is None or text == ""
    assert KeyRing.of(AccessTable()).find(text) is None


def test_a_wrong_secret_and_an_id_that_nobody_has_cost_the_same(monkeypatch: pytest.MonkeyPatch):
    """What is done for a guess says nothing of whether its id exists."""
    done: list[tuple[str, int, int]] = []
    digest, compare = hmac.digest, hmac.compare_digest

    def noted_digest(key: bytes, message: bytes, name: str) -> bytes:
        done.append(("digest", len(key), len(message)))
        return digest(key, message, name)

    def noted_compare(one: bytes, other: bytes) -> bool:
        done.append(("compare", len(one), len(other)))
        return compare(one, other)

    keys = ring()
    monkeypatch.setattr(hmac, "digest", noted_digest)
    monkeypatch.setattr(hmac, "compare_digest", noted_compare)
    for guess in (KEY[:-1] + "x", KEY.replace("abc123", "xyz789")):
        assert keys.find(guess) is None
    assert done[:2] == done[2:] == [("digest", 1, len(KEY)), ("compare", 32, 32)]


def test_ends_of_a_key():
    revoked = ring(revoked_at={"seconds": 100}).find(KEY)
    expired = ring(expires_at={"seconds": 100, "nanos": 500_000_000}).find(KEY)
    assert revoked is not None
    assert expired is not None
    assert (bool(revoked.refusal(99)), bool(revoked.refusal(100))) == (False, True)
    assert (bool(expired.refusal(100.4)), bool(expired.refusal(100.5))) == (False, True)


def test_scopes():
    everything, some = ring().find(KEY), ring(models=["a"]).find(KEY)
    assert everything is not None
    assert some is not None
    assert everything.may_use("b")
    assert some.may_use("a")
    assert some.may_use("alias", "a")
    assert not some.may_use("b")


def test_key_is_read_from_either_header():
    assert presented_key({b"authorization": b"bearer  k "}) == "k"
    assert presented_key({b"x-api-key": b"k"}) == "k"
    assert presented_key({b"x-api-key": b"other", b"authorization": b"Bearer k"}) == "k"
    assert presented_key({b"authorization": b"Basic k"}) == ""


def a_table(version: int, term: int = 1, *names: str) -> RouteTable:
    return RouteTable(version=version, term=term, routes=[Route(model=name) for name in names])


numbers = st.tuples(st.integers(0, 3), st.integers(0, 3), st.booleans())


@given(st.lists(numbers, max_size=20))
def test_order_in_force_never_goes_back_and_never_branches(offers: list[tuple[int, int, bool]]):
    in_force = None
    for term, version, named in offers:
        table = a_table(version, term, *(["m"] if named else []))
        refusal = refusal_of_routes(table, in_force)
        if in_force is None:
            assert not refusal
        else:
            older = (term, version) < (in_force.term, in_force.version)
            branches = (term, version) == (in_force.term, in_force.version) and table != in_force
            assert bool(refusal) is (older or branches)
        in_force = in_force if refusal else table


def test_access_tables_are_ordered_by_version():
    five = AccessTable(version=5, pepper=b"a")
    assert not refusal_of_access(five, None)
    assert not refusal_of_access(five, five)
    assert not refusal_of_access(AccessTable(version=6), five)
    assert refusal_of_access(AccessTable(version=4), five)
    assert refusal_of_access(AccessTable(version=5, pepper=b"b"), five)


def endpoint(url: str = URL, replica: str = "r", **fields: object) -> Endpoint:
    return Endpoint(replica_id=replica, base_url=url, **fields)


@pytest.mark.parametrize(
    "table",
    [
        RouteTable(routes=[Route(model="a"), Route(model="a")]),
        RouteTable(routes=[Route(model="a", aliases=["b"]), Route(model="b")]),
        RouteTable(routes=[Route(model="a")], provider_routes=[ProviderRoute(model="a")]),
        RouteTable(routes=[Route(model="")]),
        RouteTable(routes=[Route(model="a", aliases=[""])]),
        *(
            RouteTable(routes=[Route(model="a", endpoints=[endpoint(url)])])
            for url in ("", "10.0.0.1:80", "ftp://a:1", "http://a", "http://a:99999", "http://:80")
        ),
        RouteTable(routes=[Route(model="a", endpoints=[endpoint(replica="")])]),
    ],
)
def test_table_that_contradicts_itself_is_unsound(table: RouteTable):
    with pytest.raises(UnsoundTableError):
        Routes.of(table)


def test_table_in_the_form_that_requests_use():
    route = Route(
        model="a", aliases=["b"], endpoints=[endpoint(URL + "/", engine_model="org/a", weight=2), endpoint(replica="s")]
    )
    routes = Routes.of(RouteTable(version=3, term=2, routes=[route], provider_routes=[ProviderRoute(model="c")]))
    assert routes.by_name["b"] is routes.by_name["a"]
    first, second = routes.by_name["a"].targets
    assert (first.base_url, first.engine_model, second.engine_model) == (URL, "org/a", "a")
    assert routes.replica_ids == [["r", "s"], []]
    assert usable_names(routes, key()) == ["a", "b", "c"]
    assert usable_names(routes, key("b")) == ["b"]


def test_a_tenants_model_is_for_its_own_keys():
    routes = Routes.of(RouteTable(routes=[Route(model="ours", tenant="lab"), Route(model="everybodys")]))
    assert usable_names(routes, key(tenant="lab")) == ["everybodys", "ours"]
    assert usable_names(routes, key(tenant="web")) == ["everybodys"]
    assert find(routes, key(tenant="web"), "ours") is None
    assert find(routes, key(tenant="lab"), "ours") is routes.by_name["ours"]


def test_headers_of_one_connection_stop_here():
    headers = [
        (b"connection", b"close, X-Mine"),
        (b"x-mine", b"1"),
        (b"te", b"x"),
        (b"accept", b"*/*"),
        (b"x-forwarded-for", b"1"),
    ]
    assert for_engine(headers, b"close, X-Mine") == [(b"accept", b"*/*")]
    assert for_client([(b"content-type", b"a"), (b"server", b"b"), (b"transfer-encoding", b"chunked")], None) == [
        (b"content-type", b"a")
    ]


@pytest.mark.parametrize("given", ["a b", "x" * 129, "a\r\nb", "é", ""])
def test_request_ids_that_cannot_be_passed_on_are_replaced(given: str):
    assert request_id_of({b"x-request-id": given.encode()}) == ""


def test_errors_have_openais_shape():
    error = openai_errors.model_not_found("x", [f"m{number:02}" for number in range(30)])
    document = json.loads(error.body())
    assert set(document) == {"error"}
    assert set(document["error"]) == {"message", "type", "param", "code"}
    assert "m19 and 10 more" in document["error"]["message"]
    assert error.event() == b"data: " + error.body() + b"\n\n"
    assert json.loads(error.body(anthropic=True))["type"] == "error"


def test_usage_of_large_answers_is_read_from_their_end():
    usage = Usage()
    text = 'the model says "usage": {"prompt_tokens": 99}'
    body = json.dumps({"data": [text, "x" * 300_000], "usage": {"prompt_tokens": 5, "total_tokens": 5}}).encode()
    usage.take_answer(body)
    assert usage.prompt == 5


USAGE = b'{"prompt_tokens": 5, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 2}}'


@given(st.integers(0, 200), st.integers(1, 9000), st.sampled_from([b"", b"x" * 8000]))
def test_usage_is_found_wherever_it_stands_and_however_it_is_cut(before: int, size: int, behind: bytes):
    fields = b'"usage" : %b, "prompt_logprobs": [{"decoded_token":"usage"}, "%b"]}' % (USAGE, behind)
    body = b'{"text": "%b", %b' % (b"y" * before, fields)
    usage = Usage()
    search = UsageSearch(usage)
    for at in range(0, len(body), size):
        search.feed(body[at : at + size])
    assert (usage.prompt, usage.completion, usage.cached, usage.is_counted) == (5, 3, 2, True)


@pytest.mark.parametrize("is_first", [True, False])
def test_a_usage_that_the_client_had_repeated_makes_nothing_cheaper(*, is_first: bool):
    forged = b'{"usage": {"prompt_tokens": 9, "completion_tokens": 0, "prompt_tokens_details": {"cached_tokens": 9}}}'
    fields = [b'"tools": [%b]' % forged, b'"usage": %b' % USAGE]
    usage = Usage()
    UsageSearch(usage).feed(b"{%b}" % b", ".join(fields if is_first else fields[::-1]))
    assert (usage.prompt, usage.completion, usage.cached) == (9, 3, 2)


@given(st.binary(max_size=100))
def test_nonsense_counts_nothing(body: bytes):
    usage = Usage()
    usage.take_answer(body)
    UsageSearch(usage).feed(body)
    assert usage == Usage()


@pytest.mark.parametrize("value", [-1, True, "7", None, 1.5])
def test_counts_that_are_none_are_ignored(value: object):
    usage = Usage()
    usage.take_document({"usage": {"prompt_tokens": value, "completion_tokens": 2, "prompt_tokens_details": None}})
    assert (usage.prompt, usage.completion) == (0, 2)
