"""``studio hosts gpus``."""

from collections.abc import Iterable

from google.protobuf.struct_pb2 import Struct
from studio.v1.host_pb2 import Gpu, Host

from studio_cli import wording
from studio_cli.views.plain import plain
from studio_cli.views.replicas import short_model
from studio_cli.views.states import gpu_health, styled
from studio_cli.views.table import Column, Row, Table

COLUMNS = (
    Column("HOST"),
    Column("GPU", right=True),
    Column("MODEL"),
    Column("MEMORY"),
    Column("BUSY", right=True),
    Column("HEALTH"),
    Column("UUID", wide=True),
)


def gpu_table(hosts: Iterable[Host]) -> Table:
    """The GPUs of ``hosts``, those of one host by index."""
    rows = tuple(_row(host, gpu) for host in hosts for gpu in _by_index(host))
    return Table(COLUMNS, rows, "no host has a GPU that its agent can read")


def gpu_items(hosts: Iterable[Host]) -> list[Struct]:
    """The same for scripts: each with its host."""
    items = []
    for host in hosts:
        for gpu in _by_index(host):
            item = Struct()
            item.update({"host": host.name, **plain(gpu)})
            items.append(item)
    return items


def what_lifts_it(host: Host, gpu: Gpu) -> str:
    """What to type once a quarantined GPU is mended; "" for any other."""
    return f"once mended: studio hosts gpus check {host.name} {gpu.index}" if _is_quarantined(gpu) else ""


def _row(host: Host, gpu: Gpu) -> Row:
    figures = gpu.figures
    memory = wording.size(gpu.memory_bytes)
    return Row(
        f"{host.name} {gpu.uuid}",
        (
            host.name,
            str(gpu.index),
            short_model(gpu.model),
            f"{wording.size(figures.memory_used_bytes)} of {memory}"
            if figures.HasField("memory_used_bytes")
            else memory,
            wording.share(figures.utilization_share) if figures.HasField("utilization_share") else wording.NOTHING,
            styled(gpu_health(gpu)) if gpu.health else wording.NOTHING,
            gpu.uuid,
        ),
        gpu.health_reason,
    )


def _by_index(host: Host) -> list[Gpu]:
    return sorted(host.gpus, key=lambda gpu: (gpu.index, gpu.uuid))


def _is_quarantined(gpu: Gpu) -> bool:
    return gpu.health == Gpu.HEALTH_QUARANTINED
