"""What to do next: ``plan(desired, records, now)``.

Two passes over plain data. First what is to go: replicas that are no longer assigned, or assigned with another generation.
Then what is to run, in the order of the assignment. A replica starts when

1. no engine of it is left,
2. no GPU of it is held by a replica that is leaving or that will not share it, and
3. none of its GPUs has another engine on its way up: engines measure free memory while they start.

An assignment that is not known (a new host, or a ledger that was lost) starts and stops nothing. Each action carries its
reason, the sentence that logs, events and people get.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from studio.v1.assignment_pb2 import AssignedReplica, Assignment

from studio_agent.plan.lifecycle import LEAVING, STARTING
from studio_agent.plan.record import ReplicaRecord, State
from studio_agent.plan.restarts import is_due

# How long a stopped replica stays in the snapshot, so that the coordinator sees it stop.
STOPPED_SHOWN_SECONDS = 2.0


@dataclass(frozen=True)
class Wait:
    """Show the replica as PENDING, with the reason."""

    assigned: AssignedReplica
    reason: str


@dataclass(frozen=True)
class Start:
    """Prepare and start the replica's engine, with a clean record."""

    assigned: AssignedReplica
    reason: str


@dataclass(frozen=True)
class Restart:
    """Start a failed replica's engine again; this is charged to its budget."""

    assigned: AssignedReplica
    reason: str


@dataclass(frozen=True)
class Stop:
    """End the replica's engine, in the order drain, SIGTERM, kill."""

    replica_id: str
    reason: str


@dataclass(frozen=True)
class Forget:
    """Drop the record of a replica that is stopped."""

    replica_id: str
    reason: str


Action = Wait | Start | Restart | Stop | Forget


@dataclass(frozen=True)
class Holding:
    """A replica's hold on its GPUs."""

    replica_id: str
    shared: bool
    starting: bool
    leaving: bool


def plan(desired: Assignment | None, records: Mapping[str, ReplicaRecord], now: float) -> list[Action]:
    """The actions that bring ``records`` nearer to ``desired``; none when they agree. ``now``: seconds since the epoch."""
    wanted = None if desired is None else {replica.replica_id: replica for replica in desired.replicas}
    actions: list[Action] = [*_departures(wanted, records, now)]
    if desired is None:
        return actions
    stopping = {action.replica_id for action in actions if isinstance(action, Stop)}
    holdings = _holdings(records, stopping)
    unknown = [record.replica_id for record in records.values() if record.holds_unknown]
    for assigned in desired.replicas:
        record = records.get(assigned.replica_id)
        if not _may_start(assigned, record, stopping, now):
            continue
        obstacle = _obstacle(assigned, holdings)
        if unknown:
            obstacle = f"waits until {', '.join(unknown)}, whose GPUs are not known, is gone"
        if obstacle:
            # A failed replica keeps showing its failure.
            if record is None or record.state == State.STATE_STOPPED or _is_other(record, assigned, obstacle):
                actions.append(Wait(assigned, obstacle))
            continue
        if record is not None and record.state == State.STATE_FAILED:
            actions.append(Restart(assigned, "its restart is due"))
        else:
            actions.append(Start(assigned, f"assigned with generation {assigned.generation}"))
        _hold(holdings, assigned, starting=True, leaving=False)
    return actions


def next_due(records: Mapping[str, ReplicaRecord], now: float) -> float | None:
    """When the clock alone next changes what ``plan`` says, in seconds since the epoch; None: never."""
    times = [record.retry_at for record in records.values() if record.retry_at is not None]
    times += [r.since + STOPPED_SHOWN_SECONDS for r in records.values() if r.state == State.STATE_STOPPED]
    return min((at for at in times if at > now), default=None)


def _departures(
    wanted: Mapping[str, AssignedReplica] | None, records: Mapping[str, ReplicaRecord], now: float
) -> Iterator[Action]:
    for record in records.values():
        if record.state == State.STATE_STOPPED:
            if not record.since <= now < record.since + STOPPED_SHOWN_SECONDS:
                yield Forget(record.replica_id, "it is stopped")
        elif wanted is None or record.state in LEAVING:
            continue
        elif (successor := wanted.get(record.replica_id)) is None:
            yield Stop(record.replica_id, "no longer assigned to this host")
        elif successor.generation != record.generation:
            yield Stop(record.replica_id, f"generation {successor.generation} replaces {record.generation}")


def _may_start(assigned: AssignedReplica, record: ReplicaRecord | None, stopping: set[str], now: float) -> bool:
    if record is None or record.state == State.STATE_STOPPED:
        return True
    if assigned.replica_id in stopping or record.generation != assigned.generation:
        return False
    if record.state == State.STATE_FAILED:
        return record.engine is None and is_due(record, now)
    return record.state == State.STATE_PENDING


def _is_other(record: ReplicaRecord, assigned: AssignedReplica, reason: str) -> bool:
    return record.state == State.STATE_PENDING and (record.reason != reason or record.assigned != assigned)


def _holdings(records: Mapping[str, ReplicaRecord], stopping: set[str]) -> dict[str, list[Holding]]:
    holdings: dict[str, list[Holding]] = {}
    for record in records.values():
        if record.engine is None and record.state not in STARTING:
            continue
        leaving = record.state in LEAVING or record.state == State.STATE_FAILED or record.replica_id in stopping
        _hold(holdings, record.assigned, starting=record.state in STARTING, leaving=leaving)
    return holdings


def _hold(holdings: dict[str, list[Holding]], assigned: AssignedReplica, *, starting: bool, leaving: bool) -> None:
    holding = Holding(assigned.replica_id, _shares(assigned), starting, leaving)
    for uuid in assigned.gpu_uuids:
        holdings.setdefault(uuid, []).append(holding)


def _obstacle(assigned: AssignedReplica, holdings: Mapping[str, Sequence[Holding]]) -> str:
    for uuid in assigned.gpu_uuids:
        for holding in holdings.get(uuid, ()):
            if holding.replica_id == assigned.replica_id:
                continue
            if holding.leaving:
                return f"waits until {holding.replica_id} has left GPU {uuid}"
            if not (holding.shared and _shares(assigned)):
                return f"GPU {uuid} is held by {holding.replica_id}, and both recipes would have to share it"
            if holding.starting:
                return f"waits until {holding.replica_id} has started on GPU {uuid}"
    return ""


def _shares(assigned: AssignedReplica) -> bool:
    return assigned.recipe.resources.gpu.HasField("share")
