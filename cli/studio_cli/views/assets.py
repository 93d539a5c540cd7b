"""``studio engines`` and ``studio models``: what hosts have on their disks."""

from collections.abc import Iterable

from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from studio.v1.host_pb2 import CachedModel, EngineEnvironment, Host

from studio_cli import wording
from studio_cli.views.plain import plain
from studio_cli.views.states import styled
from studio_cli.views.table import Column, Row, Table

ENGINE_COLUMNS = (
    Column("ENGINE"),
    Column("VERSION"),
    Column("HOST"),
    Column("DISK", right=True),
    Column("PATH", wide=True),
)
MODEL_COLUMNS = (
    Column("MODEL"),
    Column("REVISION"),
    Column("HOST"),
    Column("STATE"),
    Column("DISK", right=True),
    Column("SIZE", right=True),
    Column("PATH", wide=True),
)
# Enough of a commit to know it by.
COMMIT_LETTERS = 12


def engine_table(hosts: Iterable[Host]) -> Table:
    """The installed engines of ``hosts``."""
    rows = tuple(_engine_row(host, engine) for host in hosts for engine in host.facts.engines)
    return Table(ENGINE_COLUMNS, rows, "no engine is installed: studio engines install ENGINE --host HOST")


def model_table(hosts: Iterable[Host]) -> Table:
    """The cached models of ``hosts``."""
    rows = tuple(_model_row(host, model) for host in hosts for model in host.models)
    return Table(MODEL_COLUMNS, rows, "no model is cached: studio models pull OWNER/NAME --host HOST")


def engine_items(hosts: Iterable[Host]) -> list[Struct]:
    """The same for scripts: each with its host."""
    return [_item(host, engine) for host in hosts for engine in host.facts.engines]


def model_items(hosts: Iterable[Host]) -> list[Struct]:
    """The same for scripts: each with its host."""
    return [_item(host, model) for host in hosts for model in host.models]


def _item(host: Host, asset: Message) -> Struct:
    item = Struct()
    item.update({"host": host.name, **plain(asset)})
    return item


def _engine_row(host: Host, engine: EngineEnvironment) -> Row:
    disk = wording.size(engine.disk_bytes) if engine.disk_bytes else wording.NOTHING
    return Row(
        f"{host.name} {engine.engine} {engine.version}",
        (engine.engine, engine.version, host.name, disk, engine.path),
    )


def _model_row(host: Host, model: CachedModel) -> Row:
    state = CachedModel.State.Name(model.state).removeprefix("STATE_")
    share = f" {wording.share(model.bytes_done / model.bytes_total)}" if _is_under_way(model) else ""
    return Row(
        f"{host.name} {model.source} {model.revision}",
        (
            model.source.removeprefix("hf://"),
            model.revision[:COMMIT_LETTERS] or wording.NOTHING,
            host.name,
            styled(state) + share,
            wording.size(model.bytes_done),
            wording.size(model.bytes_total) if model.bytes_total else wording.NOTHING,
            model.path or wording.NOTHING,
        ),
    )


def _is_under_way(model: CachedModel) -> bool:
    return model.state != CachedModel.STATE_COMPLETE and model.bytes_total > 0
