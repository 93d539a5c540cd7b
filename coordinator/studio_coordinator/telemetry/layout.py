"""The order of one host's figures in a row: its own, then each GPU's, then each replica's."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from struct import Struct

from studio.v1.agent_service_pb2 import ReportTelemetryRequest
from studio_runtime.errors import InvalidError

from studio_coordinator.telemetry.fields import GPU, HOST, REPLICA, UNKNOWN, Field

LONGEST_NAME = 256
NO_HOST = [UNKNOWN] * len(HOST.fields)


@dataclass(frozen=True)
class Series:
    """One figure of one thing."""

    # host, gpu or replica
    kind: str
    # Host id, GPU UUID or replica id.
    id: str
    field: str

    @property
    def key(self) -> str:
        """How the database names it. Only the id may hold a slash."""
        return f"{self.kind}/{self.id}/{self.field}"


@lru_cache
def _fields(gpus: int, replicas: int) -> tuple[Field, ...]:
    """Shared by all hosts with so many GPUs and replicas."""
    return HOST.fields + GPU.fields * gpus + REPLICA.fields * replicas


@lru_cache
def _struct(gpus: int, replicas: int) -> Struct:
    return Struct(f"<{len(_fields(gpus, replicas))}H")


@dataclass(frozen=True, slots=True)
class Layout:
    """What the columns of a row are."""

    host_id: str
    gpus: tuple[str, ...]
    replicas: tuple[str, ...]

    @classmethod
    def of(cls, host_id: str, figures: ReportTelemetryRequest) -> "Layout":
        """The layout for what a host reports; InvalidError where a name is one that nothing has."""
        for name in (*figures.gpus, *figures.replicas):
            if not 0 < len(name) <= LONGEST_NAME or not name.isprintable():
                raise InvalidError("telemetry names a GPU or a replica by what is no name")
        return cls(host_id, tuple(sorted(figures.gpus)), tuple(sorted(figures.replicas)))

    def series(self) -> Iterator[Series]:
        """What each column is, in order. Made when it is asked for: thousands of hosts have thousands of columns."""
        things = [
            (HOST, self.host_id),
            *((GPU, uuid) for uuid in self.gpus),
            *((REPLICA, name) for name in self.replicas),
        ]
        return (Series(kind.name, name, field.name) for kind, name in things for field in kind.fields)

    def place(self, series: Series) -> int | None:
        """The column of a series; None where the layout has none."""
        names = {HOST.name: (self.host_id,), GPU.name: self.gpus, REPLICA.name: self.replicas}[series.kind]
        if series.id not in names:
            return None
        return next(place for place, one in enumerate(self.series()) if one == series)

    @property
    def fields(self) -> tuple[Field, ...]:
        """The field of each column."""
        return _fields(len(self.gpus), len(self.replicas))

    @property
    def struct(self) -> Struct:
        """How a row is written: two bytes each."""
        return _struct(len(self.gpus), len(self.replicas))

    @property
    def row_bytes(self) -> int:
        """Size of a row."""
        return self.struct.size

    def row(self, figures: ReportTelemetryRequest) -> list[int] | None:
        """The row for a report; None where the report has other GPUs or replicas than the layout."""
        gpus, replicas = figures.gpus, figures.replicas
        if len(gpus) != len(self.gpus) or len(replicas) != len(self.replicas):
            return None
        row = HOST.steps(figures.host) if figures.HasField("host") else NO_HOST.copy()
        for uuid in self.gpus:
            if uuid not in gpus:
                return None
            row += GPU.steps(gpus[uuid])
        for name in self.replicas:
            if name not in replicas:
                return None
            row += REPLICA.steps(replicas[name])
        return row
