"""What a check found."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum


class Verdict(Enum):
    """What a finding means for the agent; the value is its sign."""

    OK = "✓"
    # It works, and somebody should know.
    NOTE = "!"
    BAD = "✗"


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    verdict: Verdict
    # What was seen, as a clause.
    seen: str
    # What to do; "" where there is nothing to do.
    advice: str = ""


def ok(seen: str) -> Finding:
    """Nothing to do."""
    return Finding(Verdict.OK, seen)


def note(seen: str, advice: str = "") -> Finding:
    """The agent works with it."""
    return Finding(Verdict.NOTE, seen, advice)


def bad(seen: str, advice: str) -> Finding:
    """The agent does not work with it."""
    return Finding(Verdict.BAD, seen, advice)


def render(findings: Sequence[tuple[str, Finding]]) -> str:
    """A line for each finding, with its advice below it."""
    width = max(len(name) for name, _ in findings)
    lines = []
    for name, finding in findings:
        lines.append(f"{finding.verdict.value} {name:<{width}}  {finding.seen}")
        if finding.advice:
            lines.append(f"  {'':<{width}}  → {finding.advice}")
    return "\n".join(lines) + "\n"


def as_json(findings: Sequence[tuple[str, Finding]]) -> str:
    """A list of objects with `check`, `verdict` ("ok", "note" or "bad"), `seen` and `advice`."""
    rows = [
        {"check": name, "verdict": finding.verdict.name.lower(), "seen": finding.seen, "advice": finding.advice}
        for name, finding in findings
    ]
    return json.dumps(rows, indent=2, ensure_ascii=False) + "\n"
