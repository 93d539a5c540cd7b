"""Tables of the fleet, each in an order that a key chooses."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from studio.v1.host_pb2 import Gpu, GpuFigures, Host
from studio.v1.replica_pb2 import Replica

from studio_cli import wording
from studio_cli.top.fleet import Fleet
from studio_cli.views.hosts import describe_memory
from studio_cli.views.replicas import natural, replica_table, short_model
from studio_cli.views.states import deployment_state, gpu_health, host_state, styled
from studio_cli.views.table import Column, Row, Table

BAR_CELLS = 8
FULL, EMPTY = "\N{FULL BLOCK}", "\N{LIGHT SHADE}"


class Page(StrEnum):
    """What is shown."""

    HOSTS = "hosts"
    GPUS = "gpus"
    REPLICAS = "replicas"
    MODELS = "models"


class Order(StrEnum):
    """What comes first."""

    NAME = "name"
    BUSY = "busy"
    MEMORY = "memory"


@dataclass(frozen=True)
class _Line:
    """A row, and what it is ordered by besides its name."""

    row: Row
    busy: float
    memory: float


def page(fleet: Fleet, shown: Page, order: Order, now: datetime) -> Table:
    """The table of a page."""
    if shown is Page.REPLICAS:
        return _replicas(fleet, order, now)
    columns, lines, empty = PAGES[shown](fleet)
    return Table(columns, tuple(line.row for line in _in_order(lines, order)), empty)


def summary(fleet: Fleet) -> str:
    """The fleet in a line."""
    connected = sum(host.state == Host.STATE_CONNECTED for host in fleet.hosts.values())
    gpus = [gpu for host in fleet.hosts.values() for gpu in host.gpus]
    busy = [gpu.figures.utilization_share for gpu in gpus if gpu.figures.HasField("utilization_share")]
    watts = sum(gpu.figures.power_watts for gpu in gpus)
    ready = [row for row in fleet.replicas.values() if row.state == Replica.STATE_READY]
    rate = sum(row.figures.generation_tokens_per_second for row in ready if not row.figures.stale)
    parts = [f"{connected} of {wording.count_of(len(fleet.hosts), 'host')}", wording.count_of(len(gpus), "GPU")]
    if busy:
        parts.append(f"{wording.share(sum(busy) / len(busy))} busy")
    if watts:
        parts.append(f"{wording.number(watts / 1000)} kW")
    return "  ".join(
        [
            *parts,
            f"{len(ready)} of {wording.count_of(len(fleet.replicas), 'replica')} ready",
            f"{wording.number(rate)} tok/s",
        ]
    )


def _in_order(lines: Iterable[_Line], order: Order) -> list[_Line]:
    by_name = sorted(lines, key=lambda line: natural(line.row.key))
    if order is Order.NAME:
        return by_name
    return sorted(by_name, key=lambda line: -(line.busy if order is Order.BUSY else line.memory))


HOST_COLUMNS = (
    Column("HOST"),
    Column("STATE"),
    Column("CPU"),
    Column("MEMORY"),
    Column("LOAD", right=True),
    Column("GPUS", right=True),
    Column("BUSY"),
    Column("GPU MEMORY"),
    Column("POWER", right=True),
    Column("HOTTEST", right=True),
)


def _hosts(fleet: Fleet) -> tuple[tuple[Column, ...], list[_Line], str]:
    lines = []
    for host in fleet.hosts.values():
        figures = host.figures
        gpus = [gpu.figures for gpu in host.gpus]
        busy = [one.utilization_share for one in gpus if one.HasField("utilization_share")]
        mean = sum(busy) / len(busy) if busy else None
        used, whole = sum(one.memory_used_bytes for one in gpus), sum(gpu.memory_bytes for gpu in host.gpus)
        hottest = max((one.temperature_celsius for one in gpus if one.HasField("temperature_celsius")), default=None)
        cells = (
            host.name,
            styled(host_state(host)),
            bar(figures.cpu_share if figures.HasField("cpu_share") else None),
            describe_memory(host),
            f"{figures.load_1m:.1f}" if figures.HasField("load_1m") else wording.NOTHING,
            str(len(host.gpus)),
            bar(mean),
            bar(used / whole if whole else None),
            watts(sum(one.power_watts for one in gpus)),
            wording.NOTHING if hottest is None else f"{hottest:.0f} °C",
        )
        share = mean if mean is not None else figures.cpu_share
        lines.append(_Line(Row(host.name, cells), share, used or figures.memory_used_bytes))
    return HOST_COLUMNS, lines, "no host has ever connected: start an agent there"


GPU_COLUMNS = (
    Column("HOST"),
    Column("GPU", right=True),
    Column("MODEL"),
    Column("HEALTH"),
    Column("BUSY"),
    Column("MEMORY"),
    Column("USED", right=True),
    Column("POWER", right=True),
    Column("TEMP", right=True),
    Column("CLOCK", right=True),
    Column("REPLICAS"),
)


def _gpus(fleet: Fleet) -> tuple[tuple[Column, ...], list[_Line], str]:
    on: dict[str, list[str]] = defaultdict(list)
    for row in fleet.replicas.values():
        for uuid in row.gpu_uuids:
            on[uuid].append(row.id)
    lines = [_gpu(host, gpu, on[gpu.uuid]) for host in fleet.hosts.values() for gpu in host.gpus]
    return GPU_COLUMNS, lines, "no host has a GPU that its agent can read"


def _gpu(host: Host, gpu: Gpu, replicas: list[str]) -> _Line:
    figures: GpuFigures = gpu.figures
    known = figures.HasField("memory_used_bytes") and gpu.memory_bytes
    cells = (
        host.name,
        str(gpu.index),
        short_model(gpu.model),
        styled(gpu_health(gpu)) if gpu.health else wording.NOTHING,
        bar(figures.utilization_share if figures.HasField("utilization_share") else None),
        bar(figures.memory_used_bytes / gpu.memory_bytes if known else None),
        wording.size(figures.memory_used_bytes) if known else wording.NOTHING,
        watts(figures.power_watts),
        f"{figures.temperature_celsius:.0f} °C" if figures.HasField("temperature_celsius") else wording.NOTHING,
        f"{figures.sm_clock_mhz} MHz" if figures.HasField("sm_clock_mhz") else wording.NOTHING,
        ",".join(sorted(replicas)) or wording.NOTHING,
    )
    return _Line(Row(f"{host.name} {gpu.index}", cells), figures.utilization_share, figures.memory_used_bytes)


MODEL_COLUMNS = (
    Column("MODEL"),
    Column("STATE"),
    Column("READY", right=True),
    Column("RUNNING", right=True),
    Column("WAITING", right=True),
    Column("KV"),
    Column("TOK/S", right=True),
)


def _models(fleet: Fleet) -> tuple[tuple[Column, ...], list[_Line], str]:
    own: dict[str, list[Replica]] = defaultdict(list)
    for row in fleet.replicas.values():
        if row.state == Replica.STATE_READY and not row.figures.stale:
            own[row.deployment].append(row)
    lines = []
    for item in fleet.deployments.values():
        figures = [row.figures for row in own[item.name]]
        full = max((one.kv_used_share for one in figures if one.HasField("kv_used_share")), default=None)
        rate = sum(one.generation_tokens_per_second for one in figures)
        cells = (
            item.name,
            styled(deployment_state(item)),
            f"{item.ready_replicas}/{item.wanted_replicas}",
            wording.number(sum(one.running for one in figures)),
            wording.number(sum(one.waiting for one in figures)),
            bar(full),
            wording.number(rate),
        )
        lines.append(_Line(Row(item.name, cells), rate, full or 0.0))
    return MODEL_COLUMNS, lines, "there is no deployment: studio apply -f recipe.yaml"


def _replicas(fleet: Fleet, order: Order, now: datetime) -> Table:
    table = replica_table(fleet.replicas.values(), fleet.deployments.values(), fleet.hosts.values(), now)
    figures = {name: row.figures for name, row in fleet.replicas.items()}
    lines = [
        _Line(row, figures[row.key].generation_tokens_per_second, figures[row.key].kv_used_share)
        if row.key in figures
        else _Line(row, 0.0, 0.0)
        for row in table.rows
    ]
    return Table(table.columns, tuple(line.row for line in _in_order(lines, order)), table.empty)


PAGES: dict[Page, Callable[[Fleet], tuple[tuple[Column, ...], list[_Line], str]]] = {
    Page.HOSTS: _hosts,
    Page.GPUS: _gpus,
    Page.MODELS: _models,
}


def bar(share: float | None) -> str:
    """``███░░░░░ 38 %``; a dash where it is unknown."""
    if share is None:
        return wording.NOTHING
    full = round(min(max(share, 0.0), 1.0) * BAR_CELLS)
    return FULL * full + EMPTY * (BAR_CELLS - full) + f" {wording.share(share):>5}"


def watts(value: float) -> str:
    """``512 W``; a dash for none, which no GPU takes."""
    return f"{value:,.0f} W" if value else wording.NOTHING
