"""``GpuSampler``: starts the child that reads the GPUs, watches it, replaces it when it fails, and answers from the latest
frame.

Its task takes one child after another:

            start ──► frames ──► no frame for `hang_seconds` ──► let go (it may never end) ──┐
              ▲          ├─────► pipe closed, or no frame at all ──► let go ─────────────────┤
              │          └─────► "no library" ────────► let go ──► absent: stop for good  │
              └──────────────────── wait, see `respawn` ◄────────────────────────────────────┘

Nothing here waits for a driver: the agent's loop only ever reads a pipe.
"""

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable, Mapping
from enum import Enum
from types import TracebackType
from typing import Self

import structlog
from studio.v1.event_pb2 import Event
from studio.v1.host_pb2 import Gpu, GpuFigures
from studio_runtime.errors import NotFoundError, UnavailableError

from studio_agent.gpu.childprocess import ChildProcess
from studio_agent.gpu.frames import FrameError, Refusal
from studio_agent.gpu.health import GpuHealth
from studio_agent.gpu.picture import GpuPicture
from studio_agent.gpu.reading import Vendor
from studio_agent.gpu.respawn import History, Patience, seconds_until_start

# How long a child may take to end on its own when the agent stops.
FAREWELL_SECONDS = 2.0

log = structlog.get_logger()


class SamplerState(Enum):
    """Whether there are figures, and how good."""

    STARTING = "starting"
    RUNNING = "running"
    # No GPU driver on this host: normal, not an error.
    ABSENT = "absent"
    # The last figures are older than two intervals.
    STALE = "stale"


class Ended(Enum):
    """How a child ended, as the agent sees it."""

    # Its pipe closed, or it could not be started.
    FAILED = "failed"
    # It sent nothing for too long.
    HUNG = "hung"
    # It said that no library can be used.
    REFUSED = "refused"
    # The agent stops.
    STOPPED = "stopped"


class GpuSampler:
    """``async with GpuSampler() as sampler``: the host's GPUs, from a child process.

    ``owner_of`` maps a pid to the replica that it belongs to ("" for a stranger) and is called on the loop, so it must
    be quick. ``known_health`` is what `health` returned before the agent last stopped: the caller keeps it. ``wake`` is
    called after facts, health or state may have changed; it carries no data.
    """

    def __init__(
        self,
        interval_seconds: float = 1.0,
        *,
        owner_of: Callable[[int], str] = lambda _pid: "",
        known_health: Mapping[str, GpuHealth] | None = None,
        wake: Callable[[], None] = lambda: None,
        patience: Patience = Patience(),  # noqa: B008 - it is frozen
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._interval_seconds = interval_seconds
        self._owner_of = owner_of
        self._wake = wake
        self._patience = patience
        self._environment = os.environ if environment is None else environment
        self._picture = GpuPicture(known_health or {})
        self._refusal: Refusal | None = None
        self._received: float | None = None
        self._failures = 0
        self._failed_at = 0.0
        self._starts: deque[float] = deque(maxlen=patience.starts_per_hour)
        self._left_behind: list[ChildProcess] = []
        self._group = asyncio.TaskGroup()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        self._task = self._group.create_task(self._run(), name="gpu-sampler")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
        try:
            await self._group.__aexit__(kind, error, traceback)
        except BaseExceptionGroup as failed:
            # The caller's own error goes on as it is; only one of the sampler's task comes as a group.
            if failed.exceptions != (error,):
                raise

    @property
    def state(self) -> SamplerState:
        """Whether there are figures, and how good they are."""
        if self._received is not None:
            fresh = time.monotonic() - self._received <= 2 * self._interval_seconds
            return SamplerState.RUNNING if fresh else SamplerState.STALE
        if self._refusal is not None:
            return SamplerState.ABSENT if self._refusal.absent else SamplerState.STALE
        return SamplerState.STARTING if self._failures == 0 else SamplerState.STALE

    @property
    def reason(self) -> str:
        """Why no GPU can be read, as a sentence; empty where it can."""
        return self._refusal.reason if self._refusal else ""

    @property
    def driver_version(self) -> str:
        """Of the GPUs' driver; empty until it is known."""
        return self._picture.driver_version

    @property
    def vendor(self) -> Vendor:
        """Whose GPUs they are."""
        return self._picture.vendor

    def gpus(self) -> list[Gpu]:
        """What work can be placed on, with health and without figures; the last known ones while stale."""
        return self._picture.gpus()

    def figures(self) -> dict[str, GpuFigures]:
        """The latest figures by UUID, with processes mapped to replicas; also of GPUs that are partitioned."""
        figures = self._picture.figures(stale=self.state is not SamplerState.RUNNING)
        for each in figures.values():
            for process in each.processes:
                process.replica_id = self._owner_of(process.pid)
        return figures

    def health(self) -> dict[str, GpuHealth]:
        """Verdicts by UUID, for the caller to keep across restarts: a quarantine must outlast the agent."""
        return dict(self._picture.health)

    def recheck(self, uuid: str) -> GpuHealth:
        """Lift a quarantine if nothing that can be read now speaks for it. Raises NotFoundError or UnavailableError."""
        if self.state in (SamplerState.STARTING, SamplerState.STALE):
            raise UnavailableError(
                f"GPU {uuid} cannot be checked: the driver does not answer now",
                "It stays as it is; see the host's events.",
            )
        try:
            verdict = self._picture.recheck(uuid, time.time())
        except KeyError:
            raise NotFoundError(f"GPU {uuid} is not known on this host", "See the host's list of GPUs.") from None
        self._wake()
        return verdict

    def quarantined(self) -> dict[str, str]:
        """GPUs that get no work, with the reason, by UUID."""
        return self._picture.quarantined()

    def quarantine(self, uuid: str, reason: str) -> None:
        """Give the GPU no more work, for ``reason``, until `recheck` returns it to service."""
        self._picture.quarantine(uuid, reason, time.time())
        self._wake()

    def events(self) -> list[Event]:
        """What happened since the last call: XIDs, changes of health, trouble of the child. At most 256."""
        return self._picture.take_events()

    async def _run(self) -> None:
        while self._refusal is None or not self._refusal.final:
            await self._wait_for_turn()
            started = time.monotonic()
            self._starts.append(started)
            ended = await self._run_child()
            settled = time.monotonic() - started >= self._patience.settled_seconds
            self._failures = 1 if settled else self._failures + 1
            self._failed_at = time.monotonic()
            log.info("gpu_sampler_ended", how=ended.value, failures=self._failures, left_behind=len(self._left_behind))
            self._wake()

    async def _wait_for_turn(self) -> None:
        """Wait until the next child may start; in short steps, because one that was left behind may end meanwhile."""
        step = self._patience.first_delay_seconds
        while True:
            self._left_behind = [child for child in self._left_behind if not child.has_ended()]
            history = History(self._failures, self._failed_at, self._starts, len(self._left_behind))
            wait = seconds_until_start(history, time.monotonic(), self._patience)
            if wait == 0:
                return
            await asyncio.sleep(step if wait is None else min(wait, step))

    async def _run_child(self) -> Ended:
        try:
            child = await ChildProcess.start(self._interval_seconds, self._environment)
        except OSError as error:
            self._report("gpu.sampler_failed", f"The GPU sampler could not be started: {error}.")
            return Ended.FAILED
        log.info("gpu_sampler_started", pid=child.pid)
        ended = Ended.STOPPED
        try:
            ended = await self._follow(child)
        finally:
            child.let_go()
            # A child in a hanging call may never end: nothing waits for it.
            if not await child.ended(0 if ended is Ended.HUNG else FAREWELL_SECONDS):
                self._left_behind.append(child)
                log.warning("gpu_sampler_left_behind", pid=child.pid)
        return ended

    async def _follow(self, child: ChildProcess) -> Ended:
        """Take frames until the child fails."""
        limit_seconds = self._patience.start_seconds
        while True:
            try:
                async with asyncio.timeout(limit_seconds):
                    frame = await child.read_frame()
            except TimeoutError:
                hung = f"A call into the GPU driver has not returned for {limit_seconds:g} s."
                self._report("gpu.sampler_hung", f"{hung} Figures of GPUs are stale; engines are not touched.")
                return Ended.HUNG
            except (FrameError, asyncio.IncompleteReadError) as error:
                self._report("gpu.sampler_failed", f"The GPU sampler ended: {error}.")
                return Ended.FAILED
            if frame.refusal is not None:
                if frame.refusal != self._refusal:
                    log.info("gpu_sampler_refused", reason=frame.refusal.reason, absent=frame.refusal.absent)
                self._refusal = frame.refusal
                return Ended.REFUSED
            was_running = self.state is SamplerState.RUNNING
            self._refusal, self._received = None, time.monotonic()
            limit_seconds = self._patience.hang_seconds
            if self._picture.take(frame, time.time()) or not was_running:
                self._wake()

    def _report(self, kind: str, message: str) -> None:
        self._picture.report(Event(severity=Event.SEVERITY_WARNING, kind=kind, message=message), time.time())
