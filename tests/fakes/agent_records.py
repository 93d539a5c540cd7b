"""Records of the agent that are valid by default; a test names only what it is about."""

from typing import Any

from fakes.agent_process import a_demo_replica
from studio.v1.assignment_pb2 import AssignedReplica, Assignment
from studio.v1.replica_pb2 import Failure
from studio_agent.plan.record import Engine, ReplicaRecord, State

NOW = 1_700_000_000.0


def an_engine(**fields: Any) -> Engine:
    fields.setdefault("token", "demo-1.1.abc")
    fields.setdefault("port", 20_000)
    fields.setdefault("boot_id", "boot")
    fields.setdefault("log_path", "/nowhere/engine.log")
    fields.setdefault("pid", 4711)
    fields.setdefault("start_ticks", 99)
    return Engine(**fields)


def assigned(
    replica_id: str = "demo-1", generation: int = 1, *gpus: str, share: float | None = None
) -> AssignedReplica:
    replica = a_demo_replica(replica_id, generation)
    replica.gpu_uuids.extend(gpus)
    if share is not None:
        replica.recipe.resources.gpu.share = share
    return replica


def a_record(
    replica: AssignedReplica | None = None, state: "State.ValueType" = State.STATE_READY, **fields: Any
) -> ReplicaRecord:
    replica = replica or assigned()
    fields.setdefault("reason", "because")
    fields.setdefault("since", NOW)
    if state in (State.STATE_STARTING, State.STATE_READY, State.STATE_DRAINING, State.STATE_STOPPING):
        fields.setdefault("engine", an_engine(token=f"{replica.replica_id}.{replica.generation}.abc"))
    return ReplicaRecord(replica, state, **fields)


def an_assignment(
    *replicas: AssignedReplica, generation: int = 1, term: int = 1, confirmed: bool = False
) -> Assignment:
    return Assignment(generation=generation, term=term, replicas=replicas, stops_confirmed=confirmed)


def a_failure(reason: str = "exited", *, retryable: bool = True) -> Failure:
    return Failure(reason=reason, message="the engine exited with code 1", retryable=retryable)
