"""Ledger stores other than the agent's file: one in memory, and one that a test breaks and repairs."""

import errno
import os


class MemoryStore:
    """Keeps the content for as long as the test runs, and what was put aside too."""

    def __init__(self, content: bytes | None = None) -> None:
        self.content = content
        self.aside: dict[str, bytes] = {}

    def load(self) -> bytes | None:
        return self.content

    def save(self, content: bytes) -> None:
        self.content = content

    def quarantine(self) -> str:
        assert self.content is not None
        place = f"memory-{len(self.aside)}"
        self.aside[place], self.content = self.content, None
        return place


class FailingStore(MemoryStore):
    """Every save fails as on a full disk, until ``repair``."""

    def __init__(self, content: bytes | None = None, *, broken: bool = True) -> None:
        super().__init__(content)
        self.refused = 0
        self._broken = broken

    def save(self, content: bytes) -> None:
        if self._broken:
            self.refused += 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().save(content)

    def break_down(self) -> None:
        self._broken = True

    def repair(self) -> None:
        self._broken = False
