"""The life of a replica over several hosts: it lives as a whole or not at all.

::

    placed ─▶ every part starts ─▶ rank 0 answers ─▶ READY
                     │                                 │
                     ╰──── a part fails, is gone, or ──╯
                           was begun anew by itself
                                     ▼
              FAILED: its hosts are told to stop it ──`retry_at`──▶ PENDING, the next generation: every part starts anew
                     │
                     ╰─ the budget is spent, or no retry can help: FAILED until `studio start`

    one of its hosts LOST ─▶ LOST; unless all of them are, it retires at once: what takes its place needs the room

Its state is that of rank 0, whose engine answers; each member has the state that its own host reports. An agent starts a part
that failed again by itself, which is of no use to the others: the parts of one engine find each other only at their start. So
the wait and the budget of restarts are kept here, in the row, and a part that comes back alone is stopped with the rest.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from google.protobuf.timestamp_pb2 import Timestamp
from studio.v1.agent_service_pb2 import ReplicaObservation
from studio.v1.assignment_pb2 import Assignment
from studio.v1.host_pb2 import Host
from studio.v1.replica_pb2 import Failure, Replica

from studio_coordinator.plan.lifecycle import State, is_gone
from studio_coordinator.plan.members import Part, parts, state_of
from studio_coordinator.plan.snapshot import HostObservation, Snapshot

RESTART_BUDGET = 3
LONGEST_WAIT_SECONDS = 60
# Who served for so long has its whole budget again.
SETTLED_SECONDS = 600
# After READY these mean that the engine which had joined is gone.
BEGINNING = frozenset(
    {
        Replica.STATE_PENDING,
        Replica.STATE_PREPARING,
        Replica.STATE_STARTING,
        Replica.STATE_STOPPED,
        Replica.STATE_FAILED,
    }
)


class Broken(NamedTuple):
    """Why the whole cannot serve any more."""

    part: Part
    message: str
    failure: Failure | None


def gone_ranks(replica: Replica, snapshot: Snapshot) -> frozenset[int]:
    """Parts of a retiring replica that have left their hosts."""
    return frozenset(part.rank for part in parts(replica) if _is_gone(replica, part, snapshot))


def _is_gone(replica: Replica, part: Part, snapshot: Snapshot) -> bool:
    document = snapshot.assignments.get(part.host_id, Assignment())
    assigned = any(item.replica_id == replica.id for item in document.replicas)
    return is_gone(replica, snapshot.observations.get(part.host_id), document.generation, assigned=assigned)


def fold_group(replica: Replica, row: Replica, snapshot: Snapshot, hosts: Mapping[str, Host], now: Timestamp) -> None:
    """Put what the hosts of a group say into ``row``, which `lifecycle.fold` made of ``replica`` and of rank 0's report."""
    row.restarts = replica.restarts
    stopped = replica.state == Replica.STATE_FAILED and row.state != Replica.STATE_LOST
    gone = gone_ranks(replica, snapshot) if replica.retiring else frozenset()
    for member in row.members:
        part = next(one for one in parts(row) if one.rank == member.rank)
        member.state, member.state_reason = _member_state(row, part, snapshot, hosts, gone, stopped=stopped)
    lost = [part for part in parts(row) if _host_state(hosts, part) == Host.STATE_LOST]
    if 0 in gone:
        row.state, row.engine_ready = Replica.STATE_STOPPED, False
        row.state_reason = f"stopped on {row.host_name}, not yet on all its hosts"
    elif lost:
        row.state, row.engine_ready = Replica.STATE_LOST, False
        row.state_reason = f"its part on {lost[0].host_name} is lost: {hosts[lost[0].host_id].state_reason}"
    elif replica.retiring:
        return
    elif stopped:
        _stay_failed(replica, row)
    elif (broken := _broken(replica, row, snapshot)) is not None:
        _fail(replica, row, broken, now)


def is_half_lost(row: Replica, hosts: Mapping[str, Host]) -> bool:
    """Whether some of its hosts are lost and others not."""
    states = {_host_state(hosts, part) == Host.STATE_LOST for part in parts(row)}
    return len(states) > 1


def is_due(row: Replica, now: Timestamp) -> bool:
    """Whether a group that failed has waited long enough."""
    waits = row.state == Replica.STATE_FAILED and not row.retiring and row.HasField("retry_at")
    return waits and row.retry_at.ToNanoseconds() <= now.ToNanoseconds()


def begin_anew(row: Replica, generation: int) -> None:
    """Have every part started anew, as ``generation``; the caller says why."""
    row.generation, row.engine_ready = generation, False
    for name in ("failure", "retry_at", "progress"):
        row.ClearField(name)
    for member in row.members:
        member.state, member.state_reason = Replica.STATE_PENDING, ""


def is_stopped(row: Replica) -> bool:
    """Whether its hosts are to stop it, although its place is kept."""
    return bool(row.members) and row.state == Replica.STATE_FAILED


def _host_state(hosts: Mapping[str, Host], part: Part) -> Host.State.ValueType:
    host = hosts.get(part.host_id)
    return Host.STATE_UNSPECIFIED if host is None else host.state


def _member_state(
    row: Replica, part: Part, snapshot: Snapshot, hosts: Mapping[str, Host], gone: frozenset[int], *, stopped: bool
) -> tuple[State, str]:
    """State of a part beside rank 0, and the sentence for it."""
    before = next(member for member in row.members if member.rank == part.rank)
    observed = snapshot.observations.get(part.host_id)
    if _host_state(hosts, part) == Host.STATE_LOST:
        return Replica.STATE_LOST, hosts[part.host_id].state_reason
    if part.rank in gone:
        return Replica.STATE_STOPPED, ""
    if observed is None:
        return before.state, before.state_reason
    report = _report(row, observed)
    if report is not None:
        return report.state, report.state_reason
    document = snapshot.assignments.get(part.host_id, Assignment())
    if observed.applied_generation >= document.generation and not row.retiring:
        return (Replica.STATE_STOPPED, "") if stopped else (Replica.STATE_PENDING, "assigned, and not begun yet")
    return before.state, before.state_reason


def _report(row: Replica, observed: HostObservation | None) -> ReplicaObservation | None:
    """What the host says of this generation."""
    report = observed.replicas.get(row.id) if observed is not None else None
    return report if report is not None and report.generation >= row.generation else None


def _stay_failed(replica: Replica, row: Replica) -> None:
    """Whatever rank 0's agent still reports: the whole waits for its next try."""
    row.state, row.state_reason, row.engine_ready = replica.state, replica.state_reason, False
    for name in ("progress", "failure", "retry_at"):
        row.ClearField(name)
        if replica.HasField(name):
            getattr(row, name).CopyFrom(getattr(replica, name))


def _broken(replica: Replica, row: Replica, snapshot: Snapshot) -> Broken | None:
    """The part that failed first, if one did."""
    found = sorted(_broken_parts(replica, row, snapshot), key=_when)
    return found[0] if found else None


def _broken_parts(replica: Replica, row: Replica, snapshot: Snapshot) -> Iterator[Broken]:
    for part in parts(row):
        report = _report(row, snapshot.observations.get(part.host_id))
        if report is None:
            continue
        had_joined = replica.engine_ready if part.rank == 0 else state_of(replica, part.rank) == Replica.STATE_READY
        if report.state == Replica.STATE_FAILED:
            failure = report.failure if report.HasField("failure") else None
            yield Broken(part, failure.message if failure is not None else report.state_reason, failure)
        elif had_joined and report.state in BEGINNING:
            yield Broken(part, "its engine was begun anew", None)


def _when(broken: Broken) -> tuple[int, int]:
    """Order of failures: what follows from another comes after it. One without a time is told last."""
    known = broken.failure is not None and broken.failure.HasField("at")
    return (broken.failure.at.ToNanoseconds() if known and broken.failure is not None else 2**63, broken.part.rank)


def _fail(replica: Replica, row: Replica, broken: Broken, now: Timestamp) -> None:
    """Stop the whole, with the time of its next try or without one."""
    served = now.ToSeconds() - replica.state_since.ToSeconds() if replica.state == Replica.STATE_READY else 0
    restarts = (0 if served >= SETTLED_SECONDS else replica.restarts) + 1
    row.state, row.restarts, row.engine_ready = Replica.STATE_FAILED, restarts, False
    for name in ("progress", "failure", "retry_at"):
        row.ClearField(name)
    happened = f"rank {broken.part.rank} on {broken.part.host_name}: {broken.message.rstrip('.')}"
    if broken.failure is not None:
        row.failure.CopyFrom(broken.failure)
    if broken.failure is not None and not broken.failure.retryable:
        row.state_reason = f"{happened}; trying again cannot help"
    elif restarts > RESTART_BUDGET:
        row.state_reason = f"{happened}; given up after {RESTART_BUDGET} restarts"
    else:
        wait = min(LONGEST_WAIT_SECONDS, 2 ** (restarts - 1))
        row.retry_at.FromNanoseconds(now.ToNanoseconds() + wait * 10**9)
        row.state_reason = (
            f"{happened}; all its parts are begun anew, restart {restarts} of {RESTART_BUDGET} in {wait} s"
        )
