"""What alerts are made from, of a fleet as the loop sees it."""

from datetime import UTC, datetime, timedelta

from builders import a_gpu, a_host, a_replica
from prometheus_client import REGISTRY
from studio.v1.host_pb2 import Gpu, Host
from studio.v1.identity_service_pb2 import Identity
from studio.v1.replica_pb2 import Replica
from studio.v1.route_pb2 import Endpoint, Limits, Route, RouteTable, Tenant
from studio.v1.route_service_pb2 import QuotaSubject
from studio_coordinator import fleet_metrics

MINUTE_OF_1970 = 90.0
NODES = ("fresh", "due", "late", "over", "sold", "gone")


def value(name: str, /, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)


def test_only_hosts_and_gpus_that_are_not_well_have_series_of_their_own() -> None:
    sick = a_gpu("GPU-9", health=Gpu.HEALTH_QUARANTINED)
    away = a_host("gpu-2", state=Host.STATE_LOST)
    fleet_metrics._show_hosts([a_host("gpu-1", state=Host.STATE_CONNECTED, gpus=[a_gpu("GPU-8"), sick]), away])
    assert value("studio_fleet_hosts", state="CONNECTED") == 1
    assert value("studio_fleet_hosts", state="LOST") == 1
    assert value("studio_fleet_hosts", state="SUSPECT") == 0
    assert value("studio_fleet_host_away", host="gpu-2", state="LOST") == 1
    assert value("studio_fleet_host_away", host="gpu-1", state="CONNECTED") is None
    assert value("studio_fleet_gpu_quarantined", host="gpu-1", gpu="GPU-9") == 1
    assert value("studio_fleet_gpu_quarantined", host="gpu-1", gpu="GPU-8") is None
    fleet_metrics._show_hosts([a_host("gpu-2", state=Host.STATE_CONNECTED)])
    assert value("studio_fleet_host_away", host="gpu-2", state="LOST") is None


def test_replicas_are_counted_by_deployment_and_state() -> None:
    rows = [a_replica(f"chat-{n}", deployment="chat", state=Replica.STATE_READY) for n in range(2)]
    fleet_metrics._show_replicas([*rows, a_replica("chat-3", deployment="chat", state=Replica.STATE_FAILED)])
    assert value("studio_fleet_replicas", deployment="chat", state="READY") == 2
    assert value("studio_fleet_replicas", deployment="chat", state="FAILED") == 1


def test_a_model_that_rests_or_was_stopped_is_not_unserved() -> None:
    table = RouteTable(
        routes=[
            Route(model="served", endpoints=[Endpoint(replica_id="served-1")]),
            Route(model="broken", unavailable_reason="no replica serves"),
            Route(model="asleep", wakeable=True),
            Route(model="stopped"),
        ]
    )
    fleet_metrics._show_routes(table, {"stopped"})
    assert value("studio_fleet_route_endpoints", model="served") == 1
    unserved = {model: value("studio_fleet_route_unserved", model=model) for model in ("broken", "asleep", "stopped")}
    assert unserved == {"broken": 1, "asleep": None, "stopped": None}


def test_a_budget_counts_in_its_own_window_only() -> None:
    monthly = Limits(token_budget=1000, budget_period=Limits.PERIOD_MONTH)
    bound = QuotaSubject.BOUND_TOKEN_BUDGET
    this_month = 1970 * 12
    leased = {("key:a", bound, this_month): 900, ("key:b", bound, this_month - 1): 900, ("key:gone", bound, 0): 1}
    fleet_metrics.show_budgets({"key:a": monthly, "key:b": monthly}, leased, MINUTE_OF_1970)
    assert value("studio_fleet_budget_used_share", owner="key:a", bound="token_budget") == 0.9
    assert value("studio_fleet_budget_used_share", owner="key:b", bound="token_budget") is None


def test_users_have_the_budget_of_each_user_of_their_tenant() -> None:
    each = Limits(token_budget=10)
    owners = ("user:lab/alice", "user:gone/bob", "key:a", "tenant:lab")
    found = fleet_metrics.limits_of_users([Tenant(name="lab", user_limits=each), Tenant(name="web")], owners)
    assert found == {"user:lab/alice": each, "user:gone/bob": Limits()}


def test_only_certificates_that_should_long_be_renewed_are_shown() -> None:
    now, day = datetime(2026, 1, 2, tzinfo=UTC), timedelta(days=1)

    def identity(name: str, hours_left: float, locked: str = "") -> Identity:
        made = Identity(kind=Identity.KIND_AGENT, name=name, locked_reason=locked)
        made.expires_at.FromDatetime(now + timedelta(hours=hours_left))
        return made

    known = [identity("fresh", 20), identity("due", 7), identity("late", 3), identity("over", -1)]
    fleet_metrics.show_certificates([*known, identity("sold", 3, "sold"), identity("gone", -30)], day, now)
    shown = {name: value("studio_fleet_certificate_left_seconds", kind="agent", name=name) for name in NODES}
    assert shown == dict.fromkeys(NODES) | {"late": 3 * 3600, "over": -3600}
    fleet_metrics.show_certificates([identity("late", 24)], day, now)
    assert value("studio_fleet_certificate_left_seconds", kind="agent", name="late") is None
