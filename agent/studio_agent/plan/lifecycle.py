"""Which state of a replica may follow which, on the agent's side.

::

    PENDING ──> PREPARING ──> STARTING ──> READY ──> DRAINING
       │         │  │ ▲         │  │        │  │        │
       │         │  │ └─ FAILED <──┼────────┘  │        │
       │         │  └───>  │  ▲    │           │        │
       │         │         │  └────┼───────────┼──────┐ │
       │         └─────────┼───────┴───────────┴───> STOPPING
       │                   └────────────────────────>   │
       └──────────────────────────────────────────> STOPPED

    PENDING    -> PREPARING, FAILED, STOPPED
    PREPARING  -> STARTING, FAILED, STOPPING
    STARTING   -> READY, FAILED, STOPPING
    READY      -> DRAINING, STOPPING, FAILED
    DRAINING   -> STOPPING
    STOPPING   -> STOPPED
    FAILED     -> PREPARING, STOPPING
    STOPPED    ->
    SLEEPING   ->
    WAKING     ->
    LOST       ->

PENDING waits for its GPUs. FAILED waits for its back-off, or for a new generation once it is given up. STOPPED is shown for a
moment and forgotten: a new start makes a new record. No agent enters SLEEPING and WAKING yet; LOST is the coordinator's word
for replicas of a host that it lost.
"""

from dataclasses import replace
from typing import Any

from studio_agent.plan.record import ReplicaRecord, State

Transitions = dict["State.ValueType", frozenset["State.ValueType"]]

TRANSITIONS: Transitions = {
    State.STATE_PENDING: frozenset({State.STATE_PREPARING, State.STATE_FAILED, State.STATE_STOPPED}),
    State.STATE_PREPARING: frozenset({State.STATE_STARTING, State.STATE_FAILED, State.STATE_STOPPING}),
    State.STATE_STARTING: frozenset({State.STATE_READY, State.STATE_FAILED, State.STATE_STOPPING}),
    State.STATE_READY: frozenset({State.STATE_DRAINING, State.STATE_STOPPING, State.STATE_FAILED}),
    State.STATE_DRAINING: frozenset({State.STATE_STOPPING}),
    State.STATE_STOPPING: frozenset({State.STATE_STOPPED}),
    State.STATE_FAILED: frozenset({State.STATE_PREPARING, State.STATE_STOPPING}),
    State.STATE_STOPPED: frozenset(),
    State.STATE_SLEEPING: frozenset(),
    State.STATE_WAKING: frozenset(),
    State.STATE_LOST: frozenset(),
}

# On its way to READY: other engines on the same GPU would disturb what it measures.
STARTING = frozenset({State.STATE_PREPARING, State.STATE_STARTING})
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
    return replace(record, state=state, reason=reason, since=now, **changes)
