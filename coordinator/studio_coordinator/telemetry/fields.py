"""Which figures are kept over time, and how finely.

A value is kept as a whole number of steps in 16 bits: the highest number says that it is unknown. The finest step that an
instrument can tell is enough (NVML gives whole percents and degrees, clocks in steps of 15 MHz); what a step is too coarse for
can be asked of the newest figures, which are whole.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter

from studio.v1.host_pb2 import GpuFigures, HostFigures
from studio.v1.replica_pb2 import ReplicaFigures

UNKNOWN = 0xFFFF
MIB = 2**20


@dataclass(frozen=True)
class Field:
    """One figure of the contract's messages."""

    name: str
    # What one step is worth, in the field's own unit.
    step: float

    @property
    def limit(self) -> float:
        """Values from here on do not fit, and count as unknown."""
        return UNKNOWN * self.step


Figures = HostFigures | GpuFigures | ReplicaFigures


class Kind:
    """The figures of one kind of thing."""

    def __init__(self, name: str, *fields: Field) -> None:
        self.name = name
        self.fields = fields
        # All fields of a message by one call.
        self._read: Callable[[Figures], Sequence[float]] = attrgetter(*(field.name for field in fields))
        self._scales = tuple((field.name, 1 / field.step, field.limit - field.step) for field in fields)

    def steps(self, figures: Figures) -> list[int]:
        """The fields of a message in steps. Absent, negative, endless and absurd values are unknown."""
        # Presence is asked only of a zero: anything else is there.
        return [
            int(value * per_unit + 0.5) if 0 < value < limit else 0 if value == 0 and _has(figures, name) else UNKNOWN
            for value, (name, per_unit, limit) in zip(self._read(figures), self._scales, strict=True)
        ]


def _has(figures: Figures, name: str) -> bool:
    has: Callable[[str], bool] = figures.HasField  # type: ignore[assignment] # takes the names of its own fields
    return has(name)


HOST = Kind(
    "host",
    Field("cpu_share", 0.005),
    Field("memory_used_bytes", 256 * MIB),
    Field("disk_free_bytes", 1024 * MIB),
    Field("load_1m", 1 / 8),
)
GPU = Kind(
    "gpu",
    Field("utilization_share", 0.01),
    Field("memory_used_bytes", 64 * MIB),
    Field("power_watts", 4.0),
    Field("temperature_celsius", 1.0),
    Field("sm_clock_mhz", 15.0),
)
REPLICA = Kind(
    "replica",
    Field("running", 0.25),
    Field("waiting", 0.25),
    Field("kv_used_share", 0.001),
    Field("generation_tokens_per_second", 2.0),
    Field("prefix_hit_share", 0.001),
)
KINDS = {kind.name: kind for kind in (HOST, GPU, REPLICA)}
