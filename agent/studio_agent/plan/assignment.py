"""Which assignments the agent accepts, and its own brake.

An assignment is a whole document with a generation and the term of the leader that wrote it. A deposed leader (lower term) and
a message that was overtaken (older generation) are refused; the same document again is fine and changes nothing; the same
generation with other content means that two writers disagree, and is refused. The brake is the agent's last defence against an
empty or wrong database: what would stop most of what runs here needs an operator's word.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from studio.v1.assignment_pb2 import Assignment

from studio_agent.plan.record import ReplicaRecord, State

# A replica's id names a folder: it has no separators and does not begin with a dot.
REPLICA_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")

SERVING = frozenset({State.STATE_STARTING, State.STATE_READY, State.STATE_SLEEPING, State.STATE_WAKING})
FEWEST_STOPS_TO_BRAKE = 2


@dataclass(frozen=True)
class Accept:
    """Newer and sound: persist it, then act on it."""


@dataclass(frozen=True)
class Same:
    """Already in force."""


@dataclass(frozen=True)
class Refuse:
    """Not accepted; the last good one stays in force."""

    reason: str
    # The agent's own brake, which an operator's word releases.
    braked: bool = False


Verdict = Accept | Same | Refuse


def judge_assignment(
    current: Assignment | None,
    highest_term: int,
    incoming: Assignment,
    records: Mapping[str, ReplicaRecord],
) -> Verdict:
    """Judge ``incoming`` against the assignment in force, the highest term seen, and what runs now."""
    if incoming.term < highest_term:
        return Refuse(f"its leader's term {incoming.term} is over: term {highest_term} was seen")
    if current is not None:
        if incoming.generation < current.generation:
            return Refuse(f"generation {incoming.generation} is older than {current.generation}, which is in force")
        if incoming.generation == current.generation:
            if list(incoming.replicas) == list(current.replicas):
                return Same()
            return Refuse(f"generation {incoming.generation} is in force with other content")
    if problem := _unsound(incoming):
        return Refuse(problem)
    return _brake(incoming, records) or Accept()


def _unsound(incoming: Assignment) -> str:
    seen = set()
    for replica in incoming.replicas:
        if not REPLICA_ID.fullmatch(replica.replica_id):
            return f"{replica.replica_id!r} cannot be the id of a replica"
        if replica.replica_id in seen:
            return f"it names {replica.replica_id} twice"
        seen.add(replica.replica_id)
    return ""


def _brake(incoming: Assignment, records: Mapping[str, ReplicaRecord]) -> Refuse | None:
    wanted = {replica.replica_id: replica for replica in incoming.replicas}
    serving = [record for record in records.values() if record.state in SERVING]
    stopped = sorted(r.replica_id for r in serving if r.replica_id not in wanted or not r.is_for(wanted[r.replica_id]))
    few = len(stopped) < FEWEST_STOPS_TO_BRAKE or len(stopped) * 2 <= len(serving)
    if incoming.stops_confirmed or few:
        return None
    return Refuse(
        f"it would stop {len(stopped)} of {len(serving)} running replicas ({', '.join(stopped)}) and no operator confirmed that",
        braked=True,
    )
