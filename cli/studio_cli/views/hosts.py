"""``studio hosts``."""

from collections.abc import Iterable, Mapping
from datetime import datetime

from studio.v1.host_pb2 import Host

from studio_cli import wording
from studio_cli.views.replicas import short_model
from studio_cli.views.states import host_state, styled
from studio_cli.views.table import Column, Row, Table

COLUMNS = (
    Column("NAME"),
    Column("STATE"),
    Column("SEEN", ticking=True),
    Column("GPUS"),
    Column("CPU", right=True),
    Column("MEMORY"),
    Column("DISK FREE", right=True),
    Column("LABELS"),
    Column("AGENT", wide=True),
    Column("OS", wide=True),
    Column("DRIVER", wide=True),
    Column("ID", wide=True),
)


def host_table(hosts: Iterable[Host], now: datetime) -> Table:
    """All ``hosts`` by name."""
    rows = tuple(host_row(host, now) for host in sorted(hosts, key=lambda host: host.name))
    return Table(COLUMNS, rows, "no host has ever connected: start an agent there")


def host_row(host: Host, now: datetime) -> Row:
    """One host."""
    facts, figures = host.facts, host.figures
    return Row(
        host.name,
        (
            host.name,
            styled(host_state(host) + (",CORDONED" if host.cordoned else "")),
            wording.age(host.last_seen, now),
            summarise_gpus(host),
            wording.share(figures.cpu_share) if figures.HasField("cpu_share") else wording.NOTHING,
            describe_memory(host),
            wording.size(figures.disk_free_bytes) if figures.HasField("disk_free_bytes") else wording.NOTHING,
            describe_labels(host.labels),
            facts.agent_version,
            facts.os,
            facts.gpu_driver or wording.NOTHING,
            host.id,
        ),
    )


def summarise_gpus(host: Host) -> str:
    """How many of which model, several side by side; a dash for none."""
    counts: dict[str, int] = {}
    for gpu in host.gpus:
        model = short_model(gpu.model)
        counts[model] = counts.get(model, 0) + 1
    return ", ".join(f"{count} \N{MULTIPLICATION SIGN} {model}" for model, count in counts.items()) or wording.NOTHING


def describe_memory(host: Host) -> str:
    """``8 GiB of 62 GiB``; what is used only where it is known."""
    total = wording.size(host.facts.memory_bytes)
    if not host.figures.HasField("memory_used_bytes"):
        return total
    return f"{wording.size(host.figures.memory_used_bytes)} of {total}"


def describe_labels(labels: Mapping[str, str]) -> str:
    """``pool=prod,rack=3``."""
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items())) or wording.NOTHING
