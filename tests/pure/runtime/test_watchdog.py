"""The watchdog of a process without a pass of its own."""

import asyncio
import os

import pytest
from studio_runtime.watchdog import Watchdog


async def test_it_beats_while_the_event_loop_goes_round() -> None:
    beats: asyncio.Queue[str] = asyncio.Queue()
    watchdog = Watchdog({"WATCHDOG_USEC": "4000", "WATCHDOG_PID": str(os.getpid())}, beats.put_nowait)
    task = asyncio.create_task(watchdog.keep_beating())
    assert [await beats.get() for _ in range(3)] == ["WATCHDOG=1"] * 3
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_it_ends_at_once_where_nobody_asked() -> None:
    await asyncio.wait_for(Watchdog({}, pytest.fail).keep_beating(), 5)
