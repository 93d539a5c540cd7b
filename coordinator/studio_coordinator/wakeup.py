"""A wake-up carries no data: whoever is woken looks at the state itself, so that a lost or doubled one only costs time."""

import asyncio
from contextlib import suppress


class Wakeup:
    """Wakes every task that waits; those that come later wait for the next one."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def set(self) -> None:
        """Wake all who wait now."""
        event, self._event = self._event, asyncio.Event()
        event.set()

    def ticket(self) -> asyncio.Event:
        """What to wait on. Take it before looking at the state: a change in between is then not missed."""
        return self._event


async def wait_for(event: asyncio.Event, at_most_seconds: float) -> None:
    """Wait for ``event``, or for so long: there is always a poll as well."""
    with suppress(TimeoutError):
        async with asyncio.timeout(at_most_seconds):
            await event.wait()
