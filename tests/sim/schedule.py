"""Virtual time: an event loop whose clock jumps to whatever is next, in one order that depends on nothing but the seed."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta

START = datetime(2026, 1, 1, tzinfo=UTC)


class VirtualTime(asyncio.BaseEventLoop):
    """No time passes while everybody waits, and nobody outside of it is listened to."""

    def __init__(self) -> None:
        super().__init__()
        # Where an event loop waits for time to pass and for files and sockets.
        self._selector = self
        self._now = 0.0

    def time(self) -> float:
        return self._now

    def select(self, timeout: float | None) -> list[object]:
        if timeout is None:
            raise RuntimeError("everybody waits, and nothing will ever happen again")
        self._now += timeout
        return []

    def _process_events(self, event_list: list[object]) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """Nobody sleeps who would have to be woken."""


class Schedule:
    """What is to happen when. Lives in a running loop; what fails in it ends the story."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._failed: asyncio.Future[None] = self._loop.create_future()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def now(self) -> float:
        """Seconds since START."""
        return self._loop.time()

    def wall(self) -> datetime:
        return START + timedelta(seconds=self.now)

    def after(self, seconds: float, what: Callable[[], None]) -> None:
        self._loop.call_later(seconds, self._guarded, what)

    def every(self, seconds: float, what: Callable[[], None]) -> None:
        def again() -> None:
            self.after(seconds, again)
            what()

        self.after(seconds, again)

    def start(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def pass_time(self, seconds: float) -> None:
        """Let everything happen that is to; raises what failed."""
        await asyncio.wait([self._failed], timeout=seconds)
        if self._failed.done():
            self._failed.result()

    def _guarded(self, what: Callable[[], None]) -> None:
        try:
            what()
        except Exception as error:  # noqa: BLE001 - whatever it is, the story is over
            self._fail(error)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        if not self._failed.done():
            self._failed.set_exception(error)
            # Where the story ended before anybody asked, nobody will.
            self._failed.exception()
