"""A replica's state as the fleet sees it: what its agent observed, what the gateways acknowledged, and where its host is.

::

    PENDING ─▶ PREPARING ─▶ STARTING ─▶ READY ─▶ DRAINING ─▶ STOPPING ─▶ STOPPED ─▶ (row deleted)
       │            │           ▲  │       │  ╲
       │            ▼           │  ▼       ▼   ▶ SLEEPING ⇄ WAKING ─▶ READY
       │          FAILED ◀──────┴──────────┘
       └── any state with a host ─▶ LOST ─▶ back to what the agent reports when the host returns

The agent is the one that moves an engine; this module only folds its reports into the stored row. Two states are decided here:
LOST (the host is), and READY, which needs the acknowledgement of every connected gateway beside the agent's word. Reports may be
lost, repeated or skip states, so every state may follow every other that the table lists.
"""

from collections.abc import Mapping
from typing import TypeAlias

from studio.v1.agent_service_pb2 import ReplicaObservation
from studio.v1.host_pb2 import Host
from studio.v1.replica_pb2 import Replica, StartProgress
from studio.v1.route_pb2 import RouteTable

from studio_coordinator.plan.snapshot import HostObservation

State: TypeAlias = Replica.State.ValueType

ROUTE_ON_ITS_WAY = "the engine answers; its route is on the way to the gateways"

_ENGINE = frozenset(
    {
        Replica.STATE_PREPARING,
        Replica.STATE_STARTING,
        Replica.STATE_READY,
        Replica.STATE_DRAINING,
        Replica.STATE_STOPPING,
        Replica.STATE_STOPPED,
        Replica.STATE_SLEEPING,
        Replica.STATE_WAKING,
        Replica.STATE_FAILED,
    }
)

TRANSITIONS: Mapping[State, frozenset[State]] = {
    Replica.STATE_PENDING: _ENGINE | {Replica.STATE_LOST},
    **{state: (_ENGINE - {state}) | {Replica.STATE_LOST, Replica.STATE_PENDING} for state in _ENGINE},
    Replica.STATE_LOST: _ENGINE | {Replica.STATE_PENDING},
}


def fold(
    replica: Replica,
    host: Host | None,
    observed: HostObservation | None,
    assigned_generation: int,
    *,
    routed: bool,
) -> Replica:
    """The row as it should be now; equal to ``replica`` when nothing changed (``state_since`` is left to the caller).

    ``assigned_generation`` is that of the host's current assignment; ``routed``: every known gateway has the route in force.
    """
    row = Replica()
    row.CopyFrom(replica)
    if host is None:
        return row
    if host.state == Host.STATE_LOST:
        row.state, row.state_reason, row.engine_ready = Replica.STATE_LOST, host.state_reason, False
        return row
    if observed is None:
        return row
    report = observed.replicas.get(replica.id)
    if report is not None and report.generation >= replica.generation:
        _take_report(row, report, routed=routed)
    elif observed.applied_generation >= assigned_generation and not replica.retiring:
        row.state, row.state_reason = Replica.STATE_PENDING, f"{host.name} has it assigned and has not begun yet"
        row.engine_ready = False
        row.ClearField("progress")
    return row


def is_gone(replica: Replica, observed: HostObservation | None, assigned_generation: int, *, assigned: bool) -> bool:
    """Whether a retiring replica left its host: it is assigned no more, and the agent says so of a newer assignment."""
    if not replica.host_id:
        return True
    if assigned or observed is None or observed.applied_generation < assigned_generation:
        return False
    report = observed.replicas.get(replica.id)
    return report is None or report.state == Replica.STATE_STOPPED


def _take_report(row: Replica, report: ReplicaObservation, *, routed: bool) -> None:
    was_ready = row.state == Replica.STATE_READY and row.base_url == report.base_url and row.pid == report.pid
    row.state, row.state_reason = report.state, report.state_reason
    row.engine_ready = report.state == Replica.STATE_READY
    row.base_url, row.pid, row.restarts = report.base_url, report.pid, report.restarts
    row.loaded_adapters[:] = report.loaded_adapters
    for name in ("progress", "failure", "retry_at"):
        row.ClearField(name)
        if report.HasField(name):
            getattr(row, name).CopyFrom(getattr(report, name))
    if row.retiring and row.engine_ready:
        # The agent does not know yet: its route is taken away first.
        row.state, row.state_reason = Replica.STATE_DRAINING, f"its route is being withdrawn: {row.retiring_reason}"
    elif row.sleep_level and row.engine_ready:
        row.state, row.state_reason = Replica.STATE_DRAINING, to_sleep(row)
    elif row.engine_ready and not (was_ready or routed):
        row.state, row.state_reason = Replica.STATE_STARTING, ROUTE_ON_ITS_WAY
        row.progress.phase = StartProgress.PHASE_ROUTING


def to_sleep(row: Replica) -> str:
    """What is said of a replica that serves and is to sleep."""
    return f"its route is being withdrawn: it is to sleep{' deeply' if row.sleep_level > 1 else ''}"


def routed_replicas(table: RouteTable, acknowledged_version: int | None) -> frozenset[tuple[str, str]]:
    """``(replica id, base url)`` of the endpoints in a table that every known gateway has in force."""
    if acknowledged_version is not None and acknowledged_version < table.version:
        return frozenset()
    return frozenset((end.replica_id, end.base_url) for route in table.routes for end in route.endpoints)
