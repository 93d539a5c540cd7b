"""How a role says that it is ready, and who says so: a file is believed only where it names the process that was started."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


class Readiness(Protocol):
    """Where a role says that it is ready."""

    def clear(self) -> None:
        """Forget what an earlier process said."""

    def facts(self, pid: int) -> Mapping[str, Any] | None:
        """What process ``pid`` says about itself; None while it is not ready."""


@dataclass(frozen=True)
class ReadyFile:
    """JSON that the role writes: pid, address, metrics, …"""

    path: Path

    def clear(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)

    def facts(self, pid: int) -> Mapping[str, Any] | None:
        """The file's content where it is of ``pid``."""
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return content if isinstance(content, dict) and content.get("pid") == pid else None


@dataclass(frozen=True)
class PostmasterFile:
    """``postmaster.pid`` of PostgreSQL: the pid in line 1, ``ready`` in line 8. PostgreSQL itself cares for it."""

    path: Path

    def clear(self) -> None:
        """Leave it alone: PostgreSQL decides with it whether another server has the folder."""

    def facts(self, pid: int) -> Mapping[str, Any] | None:
        """An empty mapping once the server accepts connections."""
        try:
            lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return None
        return {} if lines[:1] == [str(pid)] and lines[7:8] and lines[7].strip() == "ready" else None
