"""The oldest GPU and driver on which an engine version runs, as data.

A row holds from its version on, until the next row of the same engine. Sources:

- CUDA 12.x needs driver 525 or newer, CUDA 13.x 580 or newer: NVIDIA, "CUDA Compatibility", minor version compatibility,
  table 1.
- vLLM: compute capability 7.0 in the installation pages of 0.3 to 0.14, 7.5 in that of 0.21; its default wheels are built for
  CUDA 13 since 0.20 (vllm-project/router pull request 154).
- SGLang: compute capability 7.5 (quickstart page); CUDA 13 by default since 0.5.11.

An operator's own build (`engine.path`) is held to none of this, and neither is a host that does not say what it has.
"""

from dataclasses import dataclass
from typing import NamedTuple

Version = tuple[int, ...]


class Minimum(NamedTuple):
    """Compute capability and major driver version; the empty tuple and 0 demand nothing."""

    capability: Version
    driver: int


@dataclass(frozen=True)
class _Row:
    engine: str
    since: Version
    minimum: Minimum


MINIMUM_OF_NONE = Minimum((), 0)

MINIMUMS = (
    _Row("vllm", (0,), Minimum((7, 0), 525)),
    _Row("vllm", (0, 20), Minimum((7, 0), 580)),
    _Row("vllm", (0, 21), Minimum((7, 5), 580)),
    _Row("sglang", (0,), Minimum((7, 5), 525)),
    _Row("sglang", (0, 5, 11), Minimum((7, 5), 580)),
)


def minimum_for(engine: str, version: str) -> Minimum:
    """What ``engine`` demands at ``version``; without a version, what its newest row says."""
    rows = [row.minimum for row in MINIMUMS if row.engine == engine and (not version or row.since <= numbers(version))]
    return rows[-1] if rows else MINIMUM_OF_NONE


def numbers(text: str) -> Version:
    """The leading numbers of a version: ``0.19.1rc1`` is (0, 19, 1), an unreadable text is ()."""
    found: list[int] = []
    for part in text.split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        found.append(int(digits))
        if digits != part:
            break
    return tuple(found)
