"""The latest value, for any number of watchers: setting never waits, and a slow watcher skips what was replaced meanwhile."""

import asyncio
from typing import Generic, TypeVar

T = TypeVar("T")


class Latest(Generic[T]):
    """A value with a version; used on one event loop."""

    def __init__(self, value: T) -> None:
        self.value = value
        self.version = 0
        self._changed: asyncio.Future[None] | None = None

    def set(self, value: T) -> None:
        """Replace the value and wake every watcher."""
        self.value = value
        self.version += 1
        if self._changed is not None:
            self._changed.set_result(None)
            self._changed = None

    async def newer_than(self, version: int) -> int:
        """Wait until there is a newer version than ``version`` and return it."""
        while self.version <= version:
            if self._changed is None:
                self._changed = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._changed)
        return self.version
