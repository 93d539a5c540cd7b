"""The end of a role's log, for a person who wants to know why the role does not start."""

import json
import os
from pathlib import Path

LINES = 15
BYTES = 16 * 1024


def log_tail(log: Path, begin: int) -> str:
    """The last lines that were written after byte ``begin``, indented."""
    with log.open("rb") as file:
        file.seek(max(begin, file.seek(0, os.SEEK_END) - BYTES))
        lines = file.read().decode("utf-8", "replace").splitlines()
    return "\n".join(f"  {readable(line)}" for line in lines[-LINES:]) or "  (it wrote nothing)"


def readable(line: str) -> str:
    """A structured line as its event and what it says; any other line as it is."""
    try:
        fields = json.loads(line)
        said = [str(fields[name]) for name in ("event", "message", "hint", "error", "exception") if fields.get(name)]
    except (ValueError, TypeError, AttributeError):
        return line
    return ": ".join(said) or line
