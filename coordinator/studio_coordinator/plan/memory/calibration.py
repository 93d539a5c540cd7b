"""What earlier starts measured, in place of what is predicted.

The caller keeps one record per recipe, engine version and GPU model. A measured part replaces the predicted one, and its
error bar is the spread between starts.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from studio_coordinator.plan.memory.parts import Part
from studio_coordinator.plan.memory.sizes import GIB

_SPREAD_OF_ONE_START = int(0.05 * GIB)


@dataclass(frozen=True)
class Measured:
    """A part as it was measured: bytes on the tightest GPU, and the spread (0: measured once)."""

    bytes: int
    spread_bytes: int = 0
    # It may have been more than was seen: a prediction above it stays.
    at_least: bool = False


@dataclass(frozen=True)
class Calibration:
    """Measured parts by name: `weights`, `activation`, `buffers`, `context`, `graphs`."""

    parts: Mapping[str, Measured] = field(default_factory=dict)

    def correct(self, part: Part) -> Part:
        """`part` as it was measured; unchanged when it was not."""
        measured = self.parts.get(part.name)
        if measured is None or (measured.at_least and measured.bytes <= part.bytes):
            return part
        return part.measured(measured.bytes, measured.spread_bytes or _SPREAD_OF_ONE_START)
