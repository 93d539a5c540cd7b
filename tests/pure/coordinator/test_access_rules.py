"""The table of access, whole: every RPC of the contract is in it, and each cell of role and RPC is as written down beside."""

from pathlib import Path

import pytest
from studio.v1 import (
    access_service_pb2,
    admin_service_pb2,
    agent_service_pb2,
    identity_service_pb2,
    route_service_pb2,
    telemetry_service_pb2,
)
from studio.v1.access_service_pb2 import Operator
from studio_coordinator.access import scope
from studio_coordinator.access.caller import Caller, Kind
from studio_coordinator.access.interceptor import allow
from studio_coordinator.access.rules import Audience, Reach, rule_of, short_name
from studio_runtime.errors import DeniedError, UnauthenticatedError

CONTRACT = (
    access_service_pb2,
    admin_service_pb2,
    agent_service_pb2,
    identity_service_pb2,
    route_service_pb2,
    telemetry_service_pb2,
)
METHODS = sorted(
    f"/{service.full_name}/{method.name}"
    for module in CONTRACT
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
)
CALLERS = {
    "nobody": Caller(Kind.NOBODY),
    "agent": Caller(Kind.AGENT, "h1"),
    "gateway": Caller(Kind.GATEWAY, "g1"),
    "console": Caller(Kind.CONSOLE, "c1"),
    **{
        f"{'tenant-' if tenant else ''}{role}": Caller(
            Kind.OPERATOR, "ann", Operator.Role.Value(f"ROLE_{role.upper()}"), tenant
        )
        for tenant in ("", "blue")
        for role in ("viewer", "operator", "admin")
    },
    "local": Caller(Kind.LOCAL, "ann", Operator.ROLE_ADMIN),
}
EXPECTED = Path(__file__).with_name("access_matrix.txt")


def cell(method: str, caller: Caller) -> str:
    """``yes``, ``-``, or for a tenant's operator how far it goes."""
    rule = rule_of(method)
    assert rule is not None
    if rule.audience is Audience.OPEN:
        return "yes"
    try:
        allow(rule, caller, method)
    except (DeniedError, UnauthenticatedError):
        return "-"
    return rule.reach.name.lower() if caller.tenant and rule.reach is not Reach.SHARED else "yes"


def matrix() -> str:
    rows = [["", *CALLERS]]
    rows += [[short_name(method), *(cell(method, caller) for caller in CALLERS.values())] for method in METHODS]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "".join(
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() + "\n" for row in rows
    )


@pytest.mark.parametrize("method", METHODS)
def test_every_rpc_of_the_contract_has_a_rule(method: str) -> None:
    assert rule_of(method) is not None


def test_the_matrix_is_the_one_that_was_reviewed() -> None:
    assert matrix() == EXPECTED.read_text(encoding="utf-8")


def test_what_is_in_no_rule_is_nobodys() -> None:
    assert rule_of("/studio.v1.AdminService/Novelty") is None
    assert rule_of("/other.Service/Apply") is None


@pytest.mark.parametrize("method", [one for one in METHODS if (rule := rule_of(one)) and rule.reach is Reach.OWN])
def test_what_is_open_for_own_objects_says_which_they_are(method: str) -> None:
    name = short_name(method)
    assert name in scope.NAMED or name == "AdminService/ExportState"


@pytest.mark.parametrize("method", [one for one in METHODS if (rule := rule_of(one)) and rule.reach is Reach.PRUNED])
def test_what_is_pruned_says_how(method: str) -> None:
    name = short_name(method)
    assert name in scope.TENANT_LISTS or scope.needs_deployments(name)


@pytest.mark.parametrize("method", METHODS)
def test_what_a_viewer_may_call_changes_nothing(method: str) -> None:
    rule = rule_of(method)
    assert rule is not None
    assert not rule.changes or rule.role >= Operator.ROLE_OPERATOR
