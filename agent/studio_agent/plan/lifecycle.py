"""Which state of a replica may follow which, on the agent's side.

::

                                  WAKING <── SLEEPING
                                     │          ▲
                                     ▼          │
    PENDING ──> PREPARING ──> STARTING ──> READY ──> DRAINING
       │            ▲             │          │          │
       │            │             ▼          ▼          ▼
       │            └───────── FAILED ──────────────> STOPPING
       └──────────────────────────────────────────────> STOPPED

Whatever has or may have an engine can fail and can be stopped, so most arrows to FAILED and STOPPING are left out above:

    PENDING    -> PREPARING, FAILED, STOPPED
    PREPARING  -> STARTING, FAILED, STOPPING
    STARTING   -> READY, FAILED, STOPPING
    READY      -> DRAINING, SLEEPING, STOPPING, FAILED
    DRAINING   -> STOPPING
    STOPPING   -> STOPPED
    FAILED     -> PREPARING, STOPPING
    STOPPED    ->
    SLEEPING   -> WAKING, STOPPING, FAILED
    WAKING     -> READY, STOPPING, FAILED
    LOST       ->

PENDING waits for its GPUs. FAILED waits for its back-off, or for a new generation once it is given up. STOPPED is shown for a
moment and forgotten: a new start makes a new record. SLEEPING begins when no new request comes: those in flight finish, then the
engine gives its GPU memory back. LOST is the coordinator's word for replicas of a host that it lost.
"""

from dataclasses import replace
from typing import Any

from studio_agent.plan.record import ReplicaRecord, State

Transitions = dict["State.ValueType", frozenset["State.ValueType"]]

TRANSITIONS: Transitions = {
    State.STATE_PENDING: frozenset({State.STATE_PREPARING, State.STATE_FAILED, State.STATE_STOPPED}),
    State.STATE_PREPARING: frozenset({State.STATE_STARTING, State.STATE_FAILED, State.STATE_STOPPING}),
    State.STATE_STARTING: frozenset({State.STATE_READY, State.STATE_FAILED, State.STATE_STOPPING}),
    State.STATE_READY: frozenset(
        {State.STATE_DRAINING, State.STATE_SLEEPING, State.STATE_STOPPING, State.STATE_FAILED}
    ),
    State.STATE_DRAINING: frozenset({State.STATE_STOPPING}),
    State.STATE_STOPPING: frozenset({State.STATE_STOPPED}),
    State.STATE_FAILED: frozenset({State.STATE_PREPARING, State.STATE_STOPPING}),
    State.STATE_STOPPED: frozenset(),
    State.STATE_SLEEPING: frozenset({State.STATE_WAKING, State.STATE_STOPPING, State.STATE_FAILED}),
    State.STATE_WAKING: frozenset({State.STATE_READY, State.STATE_STOPPING, State.STATE_FAILED}),
    State.STATE_LOST: frozenset(),
}

# On its way to READY: other engines on the same GPU would disturb what it measures.
STARTING = frozenset({State.STATE_PREPARING, State.STATE_STARTING})
# It takes GPU memory: what measures free memory meanwhile would be misled.
TAKING_MEMORY = STARTING | {State.STATE_WAKING}
# It was told how deep to sleep, or may have been.
ASLEEP_OR_WAKING = frozenset({State.STATE_SLEEPING, State.STATE_WAKING})
# On its way out, and nothing brings it back.
LEAVING = frozenset({State.STATE_DRAINING, State.STATE_STOPPING})


class ForbiddenTransitionError(Exception):
    """A replica was about to change into a state that cannot follow its own: a defect of the agent."""


def advance(record: ReplicaRecord, state: "State.ValueType", reason: str, now: float, **changes: Any) -> ReplicaRecord:
    """The record in its next state; ``reason`` is the sentence people read. Raises ForbiddenTransitionError."""
    if state not in TRANSITIONS[record.state]:
        raise ForbiddenTransitionError(f"{record.replica_id}: {State.Name(record.state)} -> {State.Name(state)}")
    if state not in STARTING:
        changes.setdefault("progress", None)
    changes.setdefault("suspicion", "")
    changes.setdefault("asleep", False)
    if state not in ASLEEP_OR_WAKING:
        changes.setdefault("sleep_level", 0)
    return replace(record, state=state, reason=reason, since=now, **changes)
