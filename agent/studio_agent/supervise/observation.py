"""A record as the coordinator sees it."""

from studio.v1.agent_service_pb2 import ReplicaObservation

from studio_agent.plan.record import ReplicaRecord
from studio_agent.supervise.event_log import timestamp


def base_url(address: str, port: int) -> str:
    """Where an engine answers."""
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"


def observe(record: ReplicaRecord, engine_address: str) -> ReplicaObservation:
    """The observation of one replica."""
    seen = ReplicaObservation(
        replica_id=record.replica_id,
        generation=record.generation,
        state=record.state,
        state_reason=record.suspicion or record.reason,
        state_since=timestamp(record.since),
        progress=record.progress,
        failure=record.failure,
        restarts=record.restart_count,
        gpu_uuids=record.assigned.gpu_uuids,
        deployment=record.assigned.deployment,
        recipe_revision=record.assigned.recipe_revision,
        gave_up=record.gave_up,
        measured=record.measured,
        rank=record.assigned.group.rank,
        sleep_level=record.sleep_level if record.asleep else 0,
    )
    if record.engine is not None and record.engine.pid:
        if not record.follows:
            seen.base_url = base_url(engine_address, record.engine.port)
        seen.pid = record.engine.pid
        seen.loaded_adapters.extend(sorted(record.engine.adapters))
        seen.started_at.CopyFrom(timestamp(record.engine.started_at))
    if record.retry_at is not None:
        seen.retry_at.CopyFrom(timestamp(record.retry_at))
    return seen
