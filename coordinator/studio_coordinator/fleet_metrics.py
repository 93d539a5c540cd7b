"""What alerts are made from: hosts, GPUs, replicas, routes and budgets as the leader last saw them.

Only what is not well has a series of its own name, so that a fleet of thousands of hosts has few. The loop shows each snapshot;
most are passed over. A process that does not lead shows nothing.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import structlog
from prometheus_client import Gauge
from studio.v1.host_pb2 import Gpu, Host
from studio.v1.identity_service_pb2 import Identity
from studio.v1.replica_pb2 import Replica
from studio.v1.route_pb2 import Limits, RouteTable, Tenant
from studio.v1.route_service_pb2 import QuotaSubject
from studio_runtime.errors import StudioError
from studio_runtime.identity.names import kind_word

from studio_coordinator.leadership import Leadership
from studio_coordinator.plan.snapshot import Snapshot
from studio_coordinator.quota import BUDGETS, limit_of, window_of
from studio_coordinator.store import access, identities, quota, tenants
from studio_coordinator.store.database import Database

log = structlog.get_logger()

SHOWN_SECONDS = 5.0
BUDGET_SECONDS = 30.0
CERTIFICATES_SECONDS = 30.0
# Renewal is due at two thirds of a certificate's life and tried again until it is done; this late, it has failed for a while.
OVERDUE_SHARE = 1 / 6
AWAY = frozenset({Host.STATE_DISCONNECTED, Host.STATE_LOST})

HOSTS = Gauge("studio_fleet_hosts", "Hosts by state", ["state"])
HOST_AWAY = Gauge("studio_fleet_host_away", "1 for each host that is disconnected or lost", ["host", "state"])
GPU_QUARANTINED = Gauge("studio_fleet_gpu_quarantined", "1 for each GPU where nothing is placed", ["host", "gpu"])
REPLICAS = Gauge("studio_fleet_replicas", "Replicas by deployment and state", ["deployment", "state"])
ENDPOINTS = Gauge("studio_fleet_route_endpoints", "Endpoints that gateways may send requests to", ["model"])
# Neither stopped by an operator nor resting until a request comes.
UNSERVED = Gauge("studio_fleet_route_unserved", "1 for each model that should be served and is not", ["model"])
BUDGET = Gauge("studio_fleet_budget_used_share", "Part of a budget that is spent or reserved", ["owner", "bound"])
# Of nodes whose certificate should long be renewed, until it ran out as long ago as it counted: who is gone has no use for one.
CERTIFICATE_LEFT = Gauge(
    "studio_fleet_certificate_left_seconds", "Until a certificate that was not renewed runs out", ["kind", "name"]
)


@dataclass
class FleetMetrics:
    """Keeps the figures above."""

    database: Database
    leadership: Leadership
    # How long nodes' certificates count; None: nodes have none.
    certificate_lifetime: timedelta | None = None
    _due: float = field(default=0.0, init=False)

    def show(self, snapshot: Snapshot, table: RouteTable) -> None:
        """Show what the loop sees; at most once in SHOWN_SECONDS."""
        now = time.monotonic()
        if now < self._due:
            return
        self._due = now + SHOWN_SECONDS
        _show_hosts(snapshot.hosts)
        _show_replicas(snapshot.replicas)
        _show_routes(table, {one.name for one in snapshot.deployments if one.stopped})

    async def watch_budgets(self) -> None:
        """Show how much of budgets is left, while this process leads."""
        while True:
            await asyncio.sleep(BUDGET_SECONDS)
            if not self.leadership.is_leader:
                continue
            try:
                async with self.database.transaction() as conn:
                    limits: dict[str, Limits] = {f"key:{key.id}": key.limits for key in await access.list_keys(conn)}
                    known = await tenants.list_tenants(conn)
                    leased = await quota.leased_of(conn, BUDGETS)
                    limits |= {f"tenant:{one.name}": one.limits for one in known}
                    limits |= limits_of_users(known, (owner for owner, _, _ in leased))
            except StudioError as error:
                log.warning("budgets_not_shown", reason=error.message)
            else:
                show_budgets(limits, leased, datetime.now(UTC).timestamp())

    async def watch_certificates(self) -> None:
        """Show whose certificate is not renewed in time, while this process leads."""
        while (lifetime := self.certificate_lifetime) is not None:
            await asyncio.sleep(CERTIFICATES_SECONDS)
            if not self.leadership.is_leader:
                CERTIFICATE_LEFT.clear()
                continue
            try:
                async with self.database.transaction() as conn:
                    rows = await identities.list_identities(conn)
            except StudioError as error:
                log.warning("certificates_not_shown", reason=error.message)
            else:
                show_certificates((row.identity for row in rows), lifetime, datetime.now(UTC))


def _show_hosts(hosts: Iterable[Host]) -> None:
    counted: Counter[Host.State.ValueType] = Counter()
    HOST_AWAY.clear()
    GPU_QUARANTINED.clear()
    for host in hosts:
        counted[host.state] += 1
        if host.state in AWAY:
            HOST_AWAY.labels(host.name, _word(Host.State.Name(host.state))).set(1)
        for gpu in host.gpus:
            if gpu.health == Gpu.HEALTH_QUARANTINED:
                GPU_QUARANTINED.labels(host.name, gpu.uuid).set(1)
    for state in Host.State.values()[1:]:
        HOSTS.labels(_word(Host.State.Name(state))).set(counted[state])


def _show_replicas(replicas: Iterable[Replica]) -> None:
    REPLICAS.clear()
    for replica in replicas:
        REPLICAS.labels(replica.deployment, _word(Replica.State.Name(replica.state))).inc()


def _show_routes(table: RouteTable, stopped: Collection[str]) -> None:
    ENDPOINTS.clear()
    UNSERVED.clear()
    for route in table.routes:
        ENDPOINTS.labels(route.model).set(len(route.endpoints))
        if not (route.endpoints or route.wakeable or route.model in stopped):
            UNSERVED.labels(route.model).set(1)


def limits_of_users(known: Iterable[Tenant], owners: Iterable[str]) -> dict[str, Limits]:
    """The limits of those ``owners`` that are users (``user:research/alice``) of the ``known`` tenants."""
    of_each = {tenant.name: tenant.user_limits for tenant in known}
    users = (owner for owner in owners if owner.startswith("user:"))
    return {user: of_each.get(user.removeprefix("user:").partition("/")[0], Limits()) for user in users}


def show_budgets(limits: Mapping[str, Limits], leased: Mapping[quota.Place, int], now: float) -> None:
    """Show what is leased of each budget in the window that ``now`` (seconds since the epoch) is in."""
    BUDGET.clear()
    for (owner, bound, window), units in leased.items():
        given = limits.get(owner)
        limit = None if given is None else limit_of(given, bound)
        if given is not None and limit and window == window_of(bound, given.budget_period, now):
            word = QuotaSubject.Bound.Name(bound).removeprefix("BOUND_").lower()
            BUDGET.labels(owner, word).set(units / limit)


def show_certificates(known: Iterable[Identity], lifetime: timedelta, now: datetime) -> None:
    """Show whose certificate has little of its ``lifetime`` left, or none; of nodes that are not refused."""
    CERTIFICATE_LEFT.clear()
    for identity in known:
        left = identity.expires_at.ToDatetime(UTC) - now
        if not identity.locked_reason and -lifetime < left < lifetime * OVERDUE_SHARE:
            CERTIFICATE_LEFT.labels(kind_word(identity.kind), identity.name).set(left.total_seconds())


def _word(name: str) -> str:
    return name.removeprefix("STATE_")
