"""``studio ps``: what runs where, since when, how busy; and what should run and does not."""

import re
from collections.abc import Iterable, Sequence
from datetime import datetime

from rich.text import Text
from studio.v1.deployment_pb2 import Deployment
from studio.v1.host_pb2 import Gpu, Host
from studio.v1.replica_pb2 import Replica, ReplicaFigures

from studio_cli import wording
from studio_cli.views.starting import describe_failed, describe_progress
from studio_cli.views.states import deployment_state, replica_state, styled
from studio_cli.views.table import Cell, Column, Row, Table

COLUMNS = (
    Column("NAME"),
    Column("REPLICA"),
    Column("REVISION"),
    Column("HOST"),
    Column("GPUS"),
    Column("STATE"),
    Column("SINCE", ticking=True),
    Column("RUN/WAIT"),
    Column("KV", right=True),
    Column("TOK/S", right=True),
    Column("ENGINE", wide=True),
    Column("PID", wide=True, right=True),
    Column("RESTARTS", wide=True, right=True),
    Column("ENDPOINT", wide=True),
)

# In these a sentence says more than figures, which are not there yet or no longer true.
TOLD = {
    Replica.STATE_PENDING,
    Replica.STATE_PREPARING,
    Replica.STATE_STARTING,
    Replica.STATE_WAKING,
    Replica.STATE_DRAINING,
    Replica.STATE_STOPPING,
    Replica.STATE_FAILED,
    Replica.STATE_LOST,
}


def replica_table(
    replicas: Iterable[Replica], deployments: Iterable[Deployment], hosts: Iterable[Host], now: datetime
) -> Table:
    """All ``replicas``, and a row for each deployment that has none."""
    gpus = {gpu.uuid: gpu for host in hosts for gpu in host.gpus}
    ordered = sorted(replicas, key=lambda replica: (replica.deployment, natural(replica.id)))
    with_replicas = {replica.deployment for replica in ordered}
    rows = [replica_row(replica, gpus, now) for replica in ordered]
    rows += [empty_row(deployment) for deployment in deployments if deployment.name not in with_replicas]
    rows.sort(key=lambda row: str(row.cells[0]))
    return Table(COLUMNS, tuple(rows), "nothing runs: studio apply -f recipe.yaml")


def replica_row(replica: Replica, gpus: dict[str, Gpu], now: datetime) -> Row:
    """One replica."""
    place: tuple[Cell, ...] = (
        replica.deployment,
        replica.id,
        f"r{replica.recipe_revision}",
        describe_hosts(replica),
        " + ".join(describe_gpus([gpus.get(uuid) for uuid in uuids]) for uuids in gpus_of_parts(replica)),
        styled(replica_state(replica)),
        wording.age(replica.state_since, now),
    )
    if replica.state in TOLD:
        return Row(replica.id, place, note=told(replica, now))
    engine = (replica.engine, str(replica.pid or wording.NOTHING), str(replica.restarts), replica.base_url)
    return Row(replica.id, (*place, *busy(replica.figures), *engine))


def empty_row(deployment: Deployment) -> Row:
    """A deployment without replicas."""
    nothing = wording.NOTHING
    cells = (deployment.name, nothing, f"r{deployment.target_revision}", nothing, nothing)
    return Row(
        deployment.name,
        (*cells, styled(deployment_state(deployment)), nothing),
        note=deployment.state_reason or ("studio start " + deployment.name if deployment.stopped else ""),
    )


def told(replica: Replica, now: datetime) -> Cell:
    """The sentence about a replica that does not serve."""
    if replica.state == Replica.STATE_FAILED:
        return Text(describe_failed(replica, now), style="red")
    if replica.HasField("progress") and replica.progress.phase:
        return describe_progress(replica.progress, now)
    return replica.retiring_reason or replica.state_reason


def busy(figures: ReplicaFigures) -> tuple[str, str, str]:
    """Requests, use of the KV cache and token rate; a dash where a figure is unknown, or too old to be true."""
    nothing = wording.NOTHING
    if figures.stale:
        return nothing, nothing, nothing
    running = wording.number(figures.running) if figures.HasField("running") else nothing
    waiting = wording.number(figures.waiting) if figures.HasField("waiting") else nothing
    rate = figures.generation_tokens_per_second
    return (
        nothing if running == waiting == nothing else f"{running}/{waiting}",
        wording.share(figures.kv_used_share) if figures.HasField("kv_used_share") else nothing,
        wording.number(rate) if figures.HasField("generation_tokens_per_second") else nothing,
    )


def is_on(replica: Replica, host: Host) -> bool:
    """Whether it, or a part of it, is on ``host``."""
    ids = {replica.host_id, *(member.host_id for member in replica.members)}
    names = {replica.host_name, *(member.host_name for member in replica.members)}
    return host.id in ids or host.name in names


def describe_hosts(replica: Replica) -> str:
    """Its host, and those of its other parts; a dash where it has none."""
    return ", ".join([replica.host_name or wording.NOTHING, *(member.host_name for member in replica.members)])


def gpus_of_parts(replica: Replica) -> list[Sequence[str]]:
    """UUIDs on each of its hosts, in the order of ranks."""
    return [replica.gpu_uuids, *(member.gpu_uuids for member in replica.members)]


def describe_gpus(gpus: Sequence[Gpu | None]) -> str:
    """``0,1 H100``; a dash for none, a question mark for one that its host no longer reports."""
    if not gpus:
        return wording.NOTHING
    models = sorted({short_model(gpu.model) for gpu in gpus if gpu is not None})
    indexes = sorted(str(gpu.index) if gpu is not None else "?" for gpu in gpus)
    return " ".join([",".join(indexes), *models])


def short_model(model: str) -> str:
    """``NVIDIA H100 80GB HBM3`` as ``H100``, ``NVIDIA GeForce RTX 4090`` as ``RTX 4090``."""
    words = re.sub(r"^NVIDIA |GeForce ", "", model).split()
    until = next((place for place, word in enumerate(words) if any(map(str.isdigit, word))), len(words))
    return " ".join(words[: until + 1]).split("-")[0]


def natural(name: str) -> list[int | str]:
    """A key that sorts chat-2 before chat-10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]
