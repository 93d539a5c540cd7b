"""Which bounds a request has to keep: its key's, its user's, its tenant's."""

import pytest
from studio.v1.route_pb2 import AccessTable, ApiKey, Limits, Tenant
from studio_gateway.call import read_call
from studio_gateway.keys import KeyRing
from studio_gateway.quota.claims import claims_for
from studio_gateway.quota.purse import bound_of

ONE = Limits(concurrency=1)
CALL = read_call("/v1/chat/completions", "application/json", b'{"model": "m", "messages": []}', 10)


def owners(key: ApiKey, *tenants: Tenant) -> list[str]:
    ring = KeyRing.of(AccessTable(keys=[key], tenants=tenants))
    claims = claims_for(ring, ring.keys[key.id], "m", CALL)
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
