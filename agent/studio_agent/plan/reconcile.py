"""What to do next: ``plan(desired, records, now)``.

Two passes over plain data. First what is to go: replicas that are no longer assigned, or assigned with another generation.
Then what is to run, in the order of the assignment. A replica starts when

1. no engine of it is left,
2. no GPU of it is held by a replica that is leaving or that will not share it, and
3. none of its GPUs has another engine on its way up: engines measure free memory while they start, and
4. none of its GPUs is quarantined.

One that serves is put to sleep when that is wished. One that sleeps holds no GPU; it is woken when it is to run and 2 to 4 hold,
and for a moment also to sleep deeper.

An assignment that is not known (a new host, or a ledger that was lost) starts and stops nothing. Each action carries its
reason, the sentence that logs, events and people get.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from studio.v1.assignment_pb2 import AssignedReplica, Assignment

from studio_agent.plan.lifecycle import LEAVING, STARTING, TAKING_MEMORY
from studio_agent.plan.record import ReplicaRecord, State
from studio_agent.plan.restarts import is_due

# How long a stopped replica stays in the snapshot, so that the coordinator sees it stop.
STOPPED_SHOWN_SECONDS = 2.0
AWAKE_OR_ASLEEP = frozenset({State.STATE_READY, State.STATE_SLEEPING})


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
class Sleep:
    """Have a serving replica give its GPU memory back and keep its process, or one that sleeps sleep deeper."""

    replica_id: str
    reason: str
    # 1 keeps the weights in the host's memory, 2 does not.
    level: int = 1


@dataclass(frozen=True)
class Wake:
    """Have a sleeping replica serve again."""

    replica_id: str
    reason: str


@dataclass(frozen=True)
class Forget:
    """Drop the record of a replica that is stopped."""

    replica_id: str
    reason: str


Action = Wait | Start | Restart | Stop | Sleep | Wake | Forget


@dataclass(frozen=True)
class Circumstances:
    """What the host allows, beside what is assigned."""

    # Quarantined GPUs, by UUID, with the reason: nothing is started there.
    barred: Mapping[str, str] = field(default_factory=dict)
    # Replicas whose engine cannot sleep: they run, whatever is wished.
    sleepless: Collection[str] = frozenset()
    # Why a replica that is not assigned is to go.
    why_unassigned: str = "no longer assigned to this host"


ANYTHING_GOES = Circumstances()


@dataclass(frozen=True)
class Holding:
    """A replica's hold on its GPUs."""

    replica_id: str
    shared: bool
    starting: bool
    leaving: bool


def plan(
    desired: Assignment | None,
    records: Mapping[str, ReplicaRecord],
    now: float,
    circumstances: Circumstances = ANYTHING_GOES,
) -> list[Action]:
    """The actions that bring ``records`` nearer to ``desired``; none when they agree. ``now``: seconds since the epoch."""
    wanted = None if desired is None else {replica.replica_id: replica for replica in desired.replicas}
    actions: list[Action] = [*_departures(wanted, records, now, circumstances.why_unassigned)]
    if desired is None:
        return actions
    stopping = {action.replica_id for action in actions if isinstance(action, Stop)}
    holdings = _holdings(records, stopping)
    unknown = [record.replica_id for record in records.values() if record.holds_unknown]
    for assigned in desired.replicas:
        obstacle = _obstacle(assigned, holdings, circumstances.barred)
        if unknown:
            obstacle = f"waits until {', '.join(unknown)}, whose GPUs are not known, is gone"
        record = records.get(assigned.replica_id)
        if assigned.replica_id in stopping:
            continue
        action: Action | None
        if record is not None and record.state in AWAKE_OR_ASLEEP and record.is_for(assigned):
            action = _change_of_wish(assigned, record, obstacle, circumstances)
        else:
            action = _beginning(assigned, record, obstacle, now)
        if action is not None:
            actions.append(action)
        if isinstance(action, Start | Restart | Wake):
            _hold(holdings, assigned, starting=True, leaving=False)
    return actions


def next_due(records: Mapping[str, ReplicaRecord], now: float) -> float | None:
    """When the clock alone next changes what ``plan`` says, in seconds since the epoch; None: never."""
    times = [record.retry_at for record in records.values() if record.retry_at is not None]
    times += [r.since + STOPPED_SHOWN_SECONDS for r in records.values() if r.state == State.STATE_STOPPED]
    return min((at for at in times if at > now), default=None)


def _departures(
    wanted: Mapping[str, AssignedReplica] | None,
    records: Mapping[str, ReplicaRecord],
    now: float,
    why_unassigned: str,
) -> Iterator[Action]:
    for record in records.values():
        if record.state == State.STATE_STOPPED:
            if not record.since <= now < record.since + STOPPED_SHOWN_SECONDS:
                yield Forget(record.replica_id, "it is stopped")
        elif wanted is None or record.state in LEAVING:
            continue
        elif (successor := wanted.get(record.replica_id)) is None:
            yield Stop(record.replica_id, why_unassigned)
        elif successor.generation != record.generation:
            yield Stop(record.replica_id, f"generation {successor.generation} replaces {record.generation}")
        elif not record.is_for(successor):
            yield Stop(record.replica_id, f"generation {successor.generation} is on other GPUs, or of another revision")


def _change_of_wish(
    assigned: AssignedReplica, record: ReplicaRecord, obstacle: str, circumstances: Circumstances
) -> Sleep | Wake | None:
    sleeps = assigned.wish == AssignedReplica.WISH_SLEEP and assigned.replica_id not in circumstances.sleepless
    level = assigned.sleep_level or 1
    if sleeps and record.state == State.STATE_READY:
        return Sleep(assigned.replica_id, "it is to sleep", level)
    if record.state != State.STATE_SLEEPING or obstacle:
        return None
    # Between the two it is falling asleep, and what it is told meanwhile might overtake that.
    is_settled = record.asleep or not record.sleep_level
    if not sleeps and is_settled:
        return Wake(assigned.replica_id, "it is to serve again")
    if sleeps and record.asleep and record.sleep_level < level:
        return Sleep(assigned.replica_id, "it is to sleep deeper", level)
    return None


def _beginning(
    assigned: AssignedReplica, record: ReplicaRecord | None, obstacle: str, now: float
) -> Wait | Start | Restart | None:
    if record is not None and not _may_start(assigned, record, now):
        return None
    if obstacle:
        # A failed replica keeps showing its failure.
        shows = record is None or record.state == State.STATE_STOPPED or _is_other(record, assigned, obstacle)
        return Wait(assigned, obstacle) if shows else None
    if record is not None and record.state == State.STATE_FAILED:
        return Restart(assigned, "its restart is due")
    return Start(assigned, f"assigned with generation {assigned.generation}")


def _may_start(assigned: AssignedReplica, record: ReplicaRecord, now: float) -> bool:
    if record.state == State.STATE_STOPPED:
        return True
    if not record.is_for(assigned):
        return False
    if record.state == State.STATE_FAILED:
        return record.engine is None and is_due(record, now)
    return record.state == State.STATE_PENDING


def _is_other(record: ReplicaRecord, assigned: AssignedReplica, reason: str) -> bool:
    return record.state == State.STATE_PENDING and (record.reason != reason or record.assigned != assigned)


def _holdings(records: Mapping[str, ReplicaRecord], stopping: set[str]) -> dict[str, list[Holding]]:
    holdings: dict[str, list[Holding]] = {}
    for record in records.values():
        sleeps_on = record.asleep and record.replica_id not in stopping
        if sleeps_on or (record.engine is None and record.state not in STARTING):
            # Who sleeps keeps little of its GPUs, which is measured as a stranger's would be.
            continue
        going = LEAVING | {State.STATE_FAILED, State.STATE_SLEEPING}
        leaving = record.state in going or record.replica_id in stopping
        _hold(holdings, record.assigned, starting=record.state in TAKING_MEMORY, leaving=leaving)
    return holdings


def _hold(holdings: dict[str, list[Holding]], assigned: AssignedReplica, *, starting: bool, leaving: bool) -> None:
    holding = Holding(assigned.replica_id, _shares(assigned), starting, leaving)
    for uuid in assigned.gpu_uuids:
        holdings.setdefault(uuid, []).append(holding)


def _obstacle(assigned: AssignedReplica, holdings: Mapping[str, Sequence[Holding]], barred: Mapping[str, str]) -> str:
    for uuid in assigned.gpu_uuids:
        if uuid in barred:
            return f"GPU {uuid} is quarantined: {barred[uuid]}"
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
