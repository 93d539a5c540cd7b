"""When a failed engine is tried again, and when it is given up.

The wait doubles with every restart within the window: 1, 2, 4 … 60 s. The budget bounds how many restarts the window holds;
the next failure gives the replica up until a new generation arrives. A failure that no retry can mend is given up at once. A
port that someone else took in the moment between choosing and binding says nothing about the engine: such a try is free, but
only so often in a row, for an engine that always says so must not be started for ever.
"""

from dataclasses import dataclass, replace

from studio.v1.replica_pb2 import Failure

from studio_agent.plan.lifecycle import advance
from studio_agent.plan.record import ReplicaRecord, State

PORT_IN_USE = "port_in_use"
FREE_PORT_CONFLICTS = 5
PORT_CONFLICT_WAIT_SECONDS = 0.2


@dataclass(frozen=True)
class RestartPolicy:
    """How often and how soon a failed engine is started again."""

    budget: int = 3
    window_seconds: float = 600.0
    longest_wait_seconds: float = 60.0


def record_failure(record: ReplicaRecord, failure: Failure, now: float, policy: RestartPolicy) -> ReplicaRecord:
    """The record after ``failure``: FAILED, with the time of its next try or given up."""
    if failure.reason == PORT_IN_USE and record.port_conflicts < FREE_PORT_CONFLICTS:
        taken = record.taken_ports + ((record.engine.port,) if record.engine else ())
        return advance(
            record,
            State.STATE_FAILED,
            f"{failure.message}; tried again on another port",
            now,
            failure=failure,
            retry_at=now + PORT_CONFLICT_WAIT_SECONDS,
            retry_is_free=True,
            port_conflicts=record.port_conflicts + 1,
            taken_ports=taken,
        )
    happened = failure.message.rstrip(".")
    # A restart that lies in the future was written before the clock was set back: it still counts.
    recent = tuple(at for at in record.restarts if now - at < policy.window_seconds)
    record = replace(record, restarts=recent)
    if not failure.retryable:
        return _give_up(record, failure, f"{happened}; trying again cannot help", now)
    if len(recent) >= policy.budget:
        return _give_up(
            record,
            failure,
            f"{happened}; given up after {len(recent)} restarts in {policy.window_seconds / 60:.0f} min",
            now,
        )
    wait = min(policy.longest_wait_seconds, 2.0 ** len(recent))
    return advance(
        record,
        State.STATE_FAILED,
        f"{happened}; restart {len(recent) + 1} of {policy.budget} in {wait:.0f} s",
        now,
        failure=failure,
        retry_at=now + wait,
        retry_is_free=False,
    )


def record_restart(record: ReplicaRecord, now: float) -> ReplicaRecord:
    """The record at the moment of a restart: the budget is charged, unless the last try only lost its port."""
    if record.retry_is_free:
        return replace(record, retry_at=None, retry_is_free=False)
    return replace(
        record,
        restarts=(*record.restarts, now),
        restart_count=record.restart_count + 1,
        port_conflicts=0,
        taken_ports=(),
        retry_at=None,
    )


def is_due(record: ReplicaRecord, now: float) -> bool:
    """Whether a FAILED replica's wait is over. A clock that was set back ends the wait instead of prolonging it."""
    return record.retry_at is not None and not record.since <= now < record.retry_at


def _give_up(record: ReplicaRecord, failure: Failure, reason: str, now: float) -> ReplicaRecord:
    return advance(record, State.STATE_FAILED, reason, now, failure=failure, retry_at=None, gave_up=True)
