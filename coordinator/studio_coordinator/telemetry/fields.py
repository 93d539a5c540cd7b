"""Which figures are kept over time, and how finely.

A value is kept as a whole number of steps in 16 bits: the highest number says that it is unknown. The finest step that an
instrument can tell is enough (NVML gives whole percents and degrees, clocks in steps of 15 MHz); what a step is too coarse for
can be asked of the newest figures, which are whole.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter

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


@dataclass(frozen=True)
class Kind:
    """The figures of one kind of thing."""

    name: str
    fields: tuple[Field, ...]

    def __post_init__(self) -> None:
        # Read together: one call for all the fields of a message.
        object.__setattr__(self, "_read", attrgetter(*(field.name for field in self.fields)))
        object.__setattr__(self, "_scales", tuple((f.name, 1 / f.step, f.limit) for f in self.fields))

    def steps(self, figures: object) -> list[int]:
        """The fields of a message in steps. Absent, negative, endless and absurd values are unknown."""
        values: Sequence[float] = self._read(figures)  # type: ignore[attr-defined] # set above
        return [
            int(value * per_unit + 0.5)
            if 0 < value < limit - 1 / per_unit
            # Presence is asked only of a zero: anything else is there.
            else (0 if value == 0 and figures.HasField(name) else UNKNOWN)  # type: ignore[attr-defined] # a message
            for value, (name, per_unit, limit) in zip(values, self._scales, strict=True)  # type: ignore[attr-defined] # as above
        ]


HOST = Kind(
    "host",
    (
        Field("cpu_share", 0.005),
        Field("memory_used_bytes", 256 * MIB),
        Field("disk_free_bytes", 1024 * MIB),
        Field("load_1m", 1 / 8),
    ),
)
GPU = Kind(
    "gpu",
    (
        Field("utilization_share", 0.01),
        Field("memory_used_bytes", 64 * MIB),
        Field("power_watts", 4.0),
        Field("temperature_celsius", 1.0),
        Field("sm_clock_mhz", 15.0),
    ),
)
REPLICA = Kind(
    "replica",
    (
        Field("running", 0.25),
        Field("waiting", 0.25),
        Field("kv_used_share", 0.001),
        Field("generation_tokens_per_second", 2.0),
        Field("prefix_hit_share", 0.001),
    ),
)
KINDS = {kind.name: kind for kind in (HOST, GPU, REPLICA)}
