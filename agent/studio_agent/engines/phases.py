"""Progress of a start, read from single log lines by a table."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from studio.v1.replica_pb2 import StartProgress


@dataclass(frozen=True)
class PhaseRule:
    """A line that matches ``pattern`` belongs to ``phase``.

    ``detail`` is a line for people; it may use the pattern's groups. The groups `percent`, or `done` and `total`, give the share.
    """

    phase: StartProgress.Phase.ValueType
    pattern: re.Pattern[str]
    detail: str


def rule(phase: StartProgress.Phase.ValueType, pattern: str, detail: str) -> PhaseRule:
    """A row of a phase table."""
    return PhaseRule(phase, re.compile(pattern), detail)


def progress(line: str, rules: Sequence[PhaseRule]) -> StartProgress | None:
    """What ``line`` says; None where it says nothing. A progress bar repaints its line: the last state counts."""
    shown = line.rstrip().rpartition("\r")[2]
    for row in rules:
        found = row.pattern.search(shown)
        if found:
            groups = found.groupdict()
            said = StartProgress(phase=row.phase, detail=row.detail.format_map(groups))
            share = _share(groups)
            if share is not None:
                said.share = share
            return said
    return None


def _share(groups: dict[str, str]) -> float | None:
    if groups.get("done") and groups.get("total") and int(groups["total"]):
        return int(groups["done"]) / int(groups["total"])
    if groups.get("percent"):
        return int(groups["percent"]) / 100
    return None
