"""Where the ledger's bytes are kept; what they mean is for ``Ledger`` and ``ledger_format``."""

import time
from pathlib import Path
from typing import Protocol

from studio_runtime.process import write_atomically


class LedgerStore(Protocol):
    """Keeps one content, replaced as a whole. Called from one thread at a time, and ``save`` not from the event loop's."""

    def load(self) -> bytes | None:
        """What was saved last; None where nothing is kept. Raises OSError."""

    def save(self, content: bytes) -> None:
        """Keep ``content`` instead of what was kept, durably. Raises OSError; what was kept before is then still whole."""

    def quarantine(self) -> str:
        """Put what is kept aside, for people to look at, and return where; nothing is kept then. Raises OSError."""


class FileStore:
    """Keeps the content in one file, readable for its owner alone."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> bytes | None:
        """The file's content; None where there is no file."""
        try:
            return self._path.read_bytes()
        except FileNotFoundError:
            return None

    def save(self, content: bytes) -> None:
        """Replace the file."""
        write_atomically(self._path, content)

    def quarantine(self) -> str:
        """Rename the file; returns its new path."""
        aside = self._path.with_name(f"{self._path.name}.damaged-{time.time_ns()}")
        self._path.rename(aside)
        return str(aside)
