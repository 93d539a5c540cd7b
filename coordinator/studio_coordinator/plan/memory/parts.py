"""One number of an estimate: how many bytes, where the number comes from, and how wrong it may be."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum


class Source(Enum):
    """Where a number comes from, best first."""

    GIVEN = "given"
    MEASURED = "measured"
    FORMULA = "formula"
    FITTED = "fitted"
    BOUND = "bound"


@dataclass(frozen=True)
class Part:
    """Bytes on one GPU. The truth is expected within `bytes` ± `error_bytes`; for a BOUND, at most `bytes`."""

    name: str
    bytes: int
    source: Source
    note: str = ""
    error_bytes: int = 0

    def measured(self, measured_bytes: int, error_bytes: int) -> "Part":
        """The same part with what an earlier start measured in place of the prediction."""
        return replace(
            self, bytes=measured_bytes, source=Source.MEASURED, error_bytes=error_bytes,
            note="measured at an earlier start of this recipe",
        )  # fmt: skip


def total_bytes(parts: Iterable[Part]) -> int:
    """Sum of the parts."""
    return sum(part.bytes for part in parts)


def total_error_bytes(parts: Iterable[Part]) -> int:
    """Error of the sum, as if every part erred in the same direction: an honest bar, not a hopeful one."""
    return sum(part.error_bytes for part in parts)
