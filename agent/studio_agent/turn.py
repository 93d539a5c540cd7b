"""One at a time, over several processes: a turn at work that a lock file guards."""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

POLL_SECONDS = 0.5


@asynccontextmanager
async def turn(file: Path, waiting: Callable[[], None]) -> AsyncIterator[int]:
    """Hold ``file``'s lock; ``waiting`` is called now and then until it is had. Yields its descriptor, for others to hold it too.

    Polled, because a thread that waits for a lock cannot be cancelled. Raises OSError where there can be no such file.
    """
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while not _locked(descriptor):
            waiting()
            await asyncio.sleep(POLL_SECONDS)
        yield descriptor
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
