"""What hosts say of themselves by the second, put into the stored hosts."""

from collections.abc import Sequence

from studio.v1.host_pb2 import CachedModel, Host
from studio.v1.replica_pb2 import Replica

from studio_coordinator.sessions import SessionRegistry

# Placement reads memory and disk in whole steps, so that its reasons do not change with every sample.
STEP_BYTES = 2**30


def add_figures(host: Host, sessions: SessionRegistry) -> None:
    """The newest figures of a host and its GPUs, and what is installed and cached there."""
    said = sessions.telemetry(host.id)
    if said.HasField("host"):
        host.figures.CopyFrom(said.host)
    for gpu in host.gpus:
        if gpu.uuid in said.gpus:
            gpu.figures.CopyFrom(said.gpus[gpu.uuid])
    _add_assets(host, sessions)


def _add_assets(host: Host, sessions: SessionRegistry) -> None:
    """What is installed and cached on a host that has said so."""
    observed = sessions.last_observation(host.id)
    if observed is not None:
        host.models.extend(observed.models)
        # What is stored of engines is as old as the host's Hello.
        del host.facts.engines[:]
        host.facts.engines.extend(observed.engines)


def add_replica_figures(rows: Sequence[Replica], sessions: SessionRegistry) -> None:
    """The newest figures of each replica's engine, and what its start measured."""
    for row in rows:
        said = sessions.telemetry(row.host_id).replicas
        if row.id in said:
            row.figures.CopyFrom(said[row.id])
        observed = sessions.last_observation(row.host_id)
        for item in observed.replicas if observed is not None else ():
            if item.replica_id == row.id and item.HasField("measured"):
                row.measured.CopyFrom(item.measured)


def add_what_counts(host: Host, sessions: SessionRegistry) -> None:
    """Of the newest figures only what placement looks at, in steps: memory in use rounded up, free disk down, who holds GPUs.

    What is installed and cached on the host as well. There are thousands of hosts, and most of what each says moves all the time.
    """
    said, figures = sessions.telemetry(host.id), host.figures
    if said.host.HasField("memory_used_bytes"):
        figures.memory_used_bytes = -(-said.host.memory_used_bytes // STEP_BYTES) * STEP_BYTES
    if said.host.HasField("disk_free_bytes"):
        figures.disk_free_bytes = said.host.disk_free_bytes // STEP_BYTES * STEP_BYTES
    for gpu in host.gpus:
        if gpu.uuid in said.gpus and said.gpus[gpu.uuid].processes:
            gpu.figures.CopyFrom(said.gpus[gpu.uuid])
    _add_assets(host, sessions)


def weights_on(host: Host) -> set[str]:
    """Names of the models whose files are whole on the host, as recipes may name them."""
    whole = [model for model in host.models if model.state == CachedModel.STATE_COMPLETE]
    return {name for model in whole for name in (model.source, f"{model.source}@{model.revision}")}
