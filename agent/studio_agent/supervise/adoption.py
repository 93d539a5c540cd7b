"""What the ledger says against what runs, when the agent starts.

========================================== ==================================================================
the ledger says                            and then
========================================== ==================================================================
an engine of another boot                  it is gone; the replica starts anew, which is no restart
an engine, and it runs                     adopted: same process, same state, nothing counted
an engine, and it does not run             it failed while nobody watched
an engine that was about to start          found by its token: adopted; not found: it never started, and is
                                           tried again without a charge to its budget
nothing, but an engine of ours runs        its launch note tells what it is: adopted; no note: it is kept, and
                                           nothing starts until the coordinator's assignment has it stopped
========================================== ==================================================================
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from studio.v1.assignment_pb2 import AssignedReplica
from studio.v1.event_pb2 import Event

from studio_agent.launch import FoundEngine
from studio_agent.plan.lifecycle import LEAVING
from studio_agent.plan.record import Engine, ReplicaRecord, State
from studio_agent.supervise import bring_up
from studio_agent.supervise.equipment import Equipment

# Without an engine there is nothing to go on with: these start anew.
VANISHES = frozenset({State.STATE_PENDING, State.STATE_PREPARING, State.STATE_STOPPED})


@dataclass(frozen=True)
class Adoption:
    """What became of the ledger's replicas."""

    # Their engine runs: supervision goes on.
    resumed: tuple[str, ...] = ()
    # Their engine ended while no agent watched.
    lost: tuple[str, ...] = ()


async def adopt(equipment: Equipment) -> Adoption:
    """Bring the ledger's records in line with the host."""
    ledger = equipment.ledger
    engines = [record.engine for record in ledger.records.values() if record.engine is not None]
    # Of these it is still to be asked how they ended, where they have.
    ran = {engine.token for engine in engines if engine.pid}
    found = {engine.token: engine for engine in await equipment.launcher.survey(ran)}
    resumed: list[str] = []
    lost: list[str] = []
    for record in list(ledger.records.values()):
        kept = _settle(equipment, record, found)
        if kept is None:
            ledger.forget(record.replica_id)
            continue
        ledger.put(kept)
        if kept.engine is None:
            continue
        alive = equipment.launcher.is_running(kept.engine)
        (resumed if alive or kept.state in LEAVING | {State.STATE_FAILED} else lost).append(kept.replica_id)
    known = {record.engine.token for record in ledger.records.values() if record.engine is not None}
    for engine in found.values():
        if engine.token not in known:
            rebuilt = _rebuild(equipment, engine)
            ledger.put(rebuilt)
            resumed.append(rebuilt.replica_id)
    _tell(equipment, resumed, lost)
    return Adoption(tuple(resumed), tuple(lost))


def _settle(equipment: Equipment, record: ReplicaRecord, found: Mapping[str, FoundEngine]) -> ReplicaRecord | None:
    """The record as it is to be kept; None when the replica starts anew."""
    engine = record.engine
    if engine is None:
        return _never_started(equipment, record) if record.state in VANISHES | LEAVING else record
    if engine.boot_id != equipment.boot_id:
        return replace(record, engine=None) if record.state == State.STATE_FAILED else None
    if engine.pid:
        return record
    seen = found.get(engine.token)
    return _never_started(equipment, record) if seen is None else _identified(record, engine, seen)


def _never_started(equipment: Equipment, record: ReplicaRecord) -> ReplicaRecord | None:
    """A start that came to nothing: forgotten, unless the record has a history that its budget must know."""
    if not record.restarts or record.state in LEAVING | {State.STATE_PENDING, State.STATE_STOPPED}:
        return None
    now = equipment.now()
    reason = "the agent ended before the engine was started again"
    return replace(
        record, state=State.STATE_FAILED, reason=reason, since=now, engine=None, retry_at=now, retry_is_free=True
    )


def _identified(record: ReplicaRecord, engine: Engine, seen: FoundEngine) -> ReplicaRecord:
    """The record of an engine that was started but not written down."""
    if seen.leader is not None:
        engine = replace(engine, pid=seen.leader.pid, start_ticks=seen.leader.start_ticks, cgroup=seen.cgroup)
    state = record.state if record.state in LEAVING else State.STATE_STARTING
    return replace(record, engine=engine, state=state)


def _rebuild(equipment: Equipment, seen: FoundEngine) -> ReplicaRecord:
    """A record for an engine that the ledger does not know."""
    note = bring_up.read_note(equipment.settings.state, seen.token)
    if note is not None and note.engine is not None and seen.leader is not None:
        found = _identified(note, note.engine, seen)
        return replace(found, reason="found running; the ledger did not know it", since=equipment.now())
    replica_id, generation, _ = (*seen.token.rsplit(".", 2), "", "")[:3]
    engine = Engine(seen.token, port=0, boot_id=equipment.boot_id, log_path="", cgroup=seen.cgroup)
    if seen.leader is not None:
        engine = replace(engine, pid=seen.leader.pid, start_ticks=seen.leader.start_ticks)
    return ReplicaRecord(
        # Its true generation is in the token; 0 is no generation that could be assigned, so it is always replaced.
        AssignedReplica(replica_id=replica_id),
        State.STATE_READY,
        f"found running with generation {generation}, and nothing else is known of it",
        equipment.now(),
        engine=engine,
        holds_unknown=True,
    )


def _tell(equipment: Equipment, resumed: Iterable[str], lost: Iterable[str]) -> None:
    for replica_id in resumed:
        record = equipment.ledger.records[replica_id]
        if record.engine is not None:
            state = State.Name(record.state).removeprefix("STATE_")
            equipment.events.say(
                "agent.adopted",
                f"{replica_id} was running as process {record.engine.pid} and goes on: {state}",
                record,
                pid=str(record.engine.pid),
            )
    for replica_id in lost:
        equipment.events.say(
            "agent.engine_lost",
            f"{replica_id} ended while no agent watched it",
            equipment.ledger.records[replica_id],
            severity=Event.SEVERITY_WARNING,
        )
