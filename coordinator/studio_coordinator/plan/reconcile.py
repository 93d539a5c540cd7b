"""One pass of the plan: from a snapshot to everything that is to be stored and published.

The result is a fixed point: planning again on the world that it describes gives an empty plan.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from google.protobuf.timestamp_pb2 import Timestamp
from studio.v1.assignment_pb2 import AssignedReplica, Assignment
from studio.v1.deployment_pb2 import Deployment
from studio.v1.event_pb2 import Event
from studio.v1.host_pb2 import Host
from studio.v1.replica_pb2 import Replica

from studio_coordinator.plan.allowance import allowances
from studio_coordinator.plan.assignments import desired_assignments
from studio_coordinator.plan.fleet import Fleet
from studio_coordinator.plan.group import begin_anew, fold_group, gone_ranks, is_due, is_half_lost, is_stopped
from studio_coordinator.plan.hosts import judge_hosts
from studio_coordinator.plan.lifecycle import fold, routed_replicas
from studio_coordinator.plan.members import is_group, parts
from studio_coordinator.plan.order import in_order
from studio_coordinator.plan.resting import Resting, asked_first, ladder_changes
from studio_coordinator.plan.routes import desired_table
from studio_coordinator.plan.scale import Scaler
from studio_coordinator.plan.shape import Shape
from studio_coordinator.plan.snapshot import HostChange, Plan, Snapshot
from studio_coordinator.plan.steering import changed, rollout_events, settled, steered
from studio_coordinator.plan.worksheet import Worksheet

# Before it there was no leader whose tables a gateway could have.
FIRST_TERM = 1
HOST_SEVERITIES = {Host.STATE_LOST: Event.SEVERITY_ERROR, Host.STATE_DISCONNECTED: Event.SEVERITY_WARNING}


@dataclass(frozen=True)
class Decision:
    """A plan, and the fleet as it will be: for who asks why."""

    plan: Plan
    fleet: Fleet
    # Every replica as the plan leaves it, retiring ones too, by id.
    rows: Mapping[str, Replica]


def plan(snapshot: Snapshot) -> Plan:
    """Decide everything that one pass is to do."""
    return decide(snapshot).plan


def decide(snapshot: Snapshot) -> Decision:
    """The plan of one pass, with what it was made on."""
    sheet = Worksheet(snapshot.now)
    host_changes = judge_hosts(snapshot)
    hosts = _changed_hosts(snapshot, host_changes)
    sheet.events += [_host_event(change, hosts, sheet.now) for change in host_changes if _is_worth_telling(change)]
    for replica in snapshot.replicas:
        _observe(snapshot, sheet, replica, hosts)

    changes = ladder_changes(snapshot, sheet.rows)
    rested = [
        changes[item.name].applied(item, sheet.now) if item.name in changes else item for item in snapshot.deployments
    ]
    on_course = steered(rested, sheet.rows.values(), snapshot.watches, sheet.now)
    deployments = {deployment.name: deployment for deployment in on_course}
    fleet = Fleet.of(
        hosts.values(),
        sheet.rows.values(),
        on_course,
        snapshot.recipes,
        snapshot.models_on_hosts,
        snapshot.now,
        snapshot.sizes,
        _changed_shapes(snapshot, hosts),
    )
    draining = frozenset(host.id for host in snapshot.hosts if host.draining)
    resting = Resting.begin(snapshot, sheet, fleet, deployments, changes)
    scaler = Scaler(sheet, fleet, snapshot.recipes, resting, draining, snapshot.sizes)
    for deployment in asked_first(in_order(on_course, snapshot.recipes, snapshot.sizes), snapshot.demands):
        scaler.scale(deployment)
    scaler.announce()
    sheet.events += resting.events()
    rolled = settled([deployments[item.name] for item in on_course], sheet.rows.values(), sheet.now)
    moved = changed(snapshot.deployments, rolled)
    sheet.events += rollout_events(moved.values(), sheet.now)
    for row in sheet.rows.values():
        if row.deployment not in deployments and not row.retiring:
            sheet.retire(row, "its deployment was deleted")

    rows = list(sheet.rows.values())
    stored = {replica.id: replica for replica in snapshot.replicas}
    holders = {row.deployment for row in rows}
    assignments, held = desired_assignments(
        hosts,
        snapshot.assignments,
        snapshot.term,
        rows,
        deployments,
        snapshot.recipes,
        snapshot.traceparents,
        _withdrawn(snapshot, rows),
        allowances(snapshot, rows, fleet),
    )
    decided = Plan(
        host_changes=host_changes,
        inserted=[row for row in rows if row.id not in stored],
        updated=[row for row in rows if row.id in stored and row != stored[row.id]],
        deleted=sheet.deleted,
        purged_deployments=[
            deployment.name
            for deployment in snapshot.deployments
            if deployment.state == Deployment.STATE_STOPPING and deployment.name not in holders
        ],
        assignments=assignments,
        table=desired_table(snapshot.table, snapshot.term, rolled, rows, snapshot.providers, snapshot.recipes),
        events=sheet.events,
        made_way=resting.made_way,
        rests=[changes[name] for name in sorted(changes)],
        rollouts={name: deployment.rollout for name, deployment in moved.items()},
        held_back={hosts[host_id].name: [item.replica_id for item in items] for host_id, items in held.items()},
    )
    return Decision(decided, fleet, sheet.rows)


def _observe(snapshot: Snapshot, sheet: Worksheet, replica: Replica, hosts: Mapping[str, Host]) -> None:
    """Fold what its host said of a replica into its row, or drop the row when it retired and is gone."""
    observed = snapshot.observations.get(replica.host_id)
    document = snapshot.assignments.get(replica.host_id, Assignment())
    if replica.retiring and len(gone_ranks(replica, snapshot)) == len(parts(replica)):
        sheet.deleted.append(replica.id)
        sheet.tell(replica, "replica.removed", f"{replica.id} is gone: {replica.retiring_reason}")
        return
    report = observed.replicas.get(replica.id) if observed is not None else None
    base_url = report.base_url if report is not None else replica.base_url
    routed = (replica.id, base_url) in routed_replicas(snapshot.table, snapshot.acknowledged_version)
    row = fold(replica, hosts.get(replica.host_id), observed, document.generation, routed=routed)
    sheet.rows[row.id] = row
    if is_group(row):
        _observe_group(snapshot, sheet, replica, row, hosts)
    if row.state == replica.state:
        return
    row.state_since.CopyFrom(sheet.now)
    if row.state == Replica.STATE_READY:
        sheet.tell(row, "replica.routed", f"{row.id} serves on {row.host_name}: every gateway has its route")
    elif row.state == Replica.STATE_LOST:
        sheet.tell(row, "replica.lost", f"{row.id} is lost with {row.host_name}", Event.SEVERITY_ERROR)


def _observe_group(
    snapshot: Snapshot, sheet: Worksheet, replica: Replica, row: Replica, hosts: Mapping[str, Host]
) -> None:
    """Fold in what the hosts of its other parts say, and have a group that broke stop, wait, or begin anew."""
    fold_group(replica, row, snapshot, hosts, sheet.now)
    if row.state == Replica.STATE_FAILED != replica.state:
        sheet.tell(row, "replica.broken", f"{row.id} cannot serve: {row.state_reason}", Event.SEVERITY_ERROR)
    elif is_half_lost(row, hosts) and not row.retiring:
        sheet.retire(row, f"it cannot serve without all its hosts: {row.state_reason}")
    elif is_due(row, sheet.now):
        begin_anew(row, row.generation + 1)
        sheet.move(row, Replica.STATE_PENDING, "all its parts are begun anew")
        sheet.tell(
            row, "replica.retried", f"{row.id} is tried anew on {', '.join(part.host_name for part in parts(row))}"
        )


def _withdrawn(snapshot: Snapshot, rows: list[Replica]) -> set[str]:
    """Replicas that are to go or to sleep, and that no gateway can send a request to any more."""
    leaving = [row for row in rows if row.retiring or row.sleep_level or is_stopped(row)]
    # What their host was told is not taken back while a later table is on its way to the gateways.
    told = {row.id for row in leaving if _is_told(row, snapshot.assignments.get(row.host_id, Assignment()))}
    acknowledged = snapshot.acknowledged_version
    if acknowledged is not None and acknowledged < snapshot.table.version:
        return told
    if snapshot.term > FIRST_TERM and snapshot.leading_for_seconds < snapshot.timers.gateway_grace:
        # Gateways that an earlier leader knew may not have called here yet, and route by its tables.
        return told
    routed = {end.replica_id for route in snapshot.table.routes for end in route.endpoints}
    return told | {row.id for row in leaving if row.id not in routed}


def _is_told(row: Replica, document: Assignment) -> bool:
    """Whether its host's document lets a replica that is to go, go, or one that is to sleep, sleep."""
    items = [item for item in document.replicas if item.replica_id == row.id]
    if row.retiring or is_stopped(row):
        return not items
    return any(item.wish == AssignedReplica.WISH_SLEEP and item.generation == row.generation for item in items)


def _changed_hosts(snapshot: Snapshot, changes: list[HostChange]) -> Mapping[str, Host]:
    """All hosts by id, in the state that they have from now on."""
    states = {change.host_id: change for change in changes}
    hosts = {}
    for stored in snapshot.hosts:
        host = stored
        if stored.id in states:
            host = Host()
            host.CopyFrom(stored)
            host.state, host.state_reason = states[stored.id].state, states[stored.id].reason
        hosts[host.id] = host
    return hosts


def _changed_shapes(snapshot: Snapshot, hosts: Mapping[str, Host]) -> Mapping[str, Shape]:
    """The shapes, for the messages of hosts whose state changes as well: a shape knows no state."""
    shapes = dict(snapshot.shapes)
    for stored in snapshot.hosts:
        shape = shapes.get(stored.id)
        if shape is not None and shape.host is stored and hosts[stored.id] is not stored:
            shapes[stored.id] = replace(shape, host=hosts[stored.id])
    return shapes


def _is_worth_telling(change: HostChange) -> bool:
    """A connect is told by the session that made it; a missed heartbeat is a state, not a story."""
    return change.state in HOST_SEVERITIES


def _host_event(change: HostChange, hosts: Mapping[str, Host], now: Timestamp) -> Event:
    name = hosts[change.host_id].name
    return Event(
        at=now,
        severity=HOST_SEVERITIES[change.state],
        kind="host." + Host.State.Name(change.state).removeprefix("STATE_").lower(),
        host=name,
        message=f"host {name}: {change.reason}",
        actor="plan",
    )
