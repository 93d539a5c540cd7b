"""What is to be sent next: one slot for each kind, filled by many, emptied by the one task that writes.

Nothing here grows while the coordinator does not read. Observations are made when they are sent, so they are never old; of
heartbeats and answers only the newest matters; events stay in their queue on disk; a log reader waits until its chunk is taken.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator

from studio.v1.agent_service_pb2 import (
    AssignmentAck,
    AssignmentNack,
    CommandProgress,
    CommandResult,
    ConnectRequest,
    EventBatch,
    Heartbeat,
    LogChunk,
    ObservationReport,
)

from studio_agent.event_queue import EventQueue
from studio_agent.latest import Latest

EVENTS_IN_BATCH = 100
LOG_CHUNKS = 2
RESULTS = 16


class Outbox:
    """The slots of one connection."""

    def __init__(self, observe: Callable[[], ObservationReport], events: EventQueue, events_sent: int) -> None:
        """``events_sent``: events up to this sequence need no sending."""
        self._observe = observe
        self._events = events
        self._events_sent = events_sent
        self._filled = Latest(None)
        self._answers: deque[ConnectRequest] = deque()
        self._heartbeat: Heartbeat | None = None
        self._observation_due = False
        self._observed: ObservationReport | None = None
        self._results: deque[CommandResult] = deque(maxlen=RESULTS)
        # Of each command the newest; those that run are bounded.
        self._progress: dict[str, CommandProgress] = {}
        self._chunks: deque[LogChunk] = deque()
        self._chunk_room = asyncio.Semaphore(LOG_CHUNKS)

    def answer(self, *answers: AssignmentAck | AssignmentNack) -> None:
        """Say what became of the newest assignment: taken, refused, or taken but for some of its replicas."""
        self._answers.clear()
        for answer in answers:
            if isinstance(answer, AssignmentAck):
                self._answers.append(ConnectRequest(assignment_ack=answer))
            else:
                self._answers.append(ConnectRequest(assignment_nack=answer))
        self.wake()

    def beat(self, heartbeat: Heartbeat) -> None:
        """Send this heartbeat in place of one that still waits."""
        self._heartbeat = heartbeat
        self.wake()

    def observation_due(self) -> None:
        """Something may have changed: if so, report the whole once more."""
        self._observation_due = True
        self.wake()

    def progress(self, progress: CommandProgress) -> None:
        """Say how far a command is, in place of what still waits of it."""
        self._progress[progress.command_id] = progress
        self.wake()

    def result(self, result: CommandResult) -> None:
        """Say how a command ended."""
        self._progress.pop(result.command_id, None)
        self._results.append(result)
        self.wake()

    async def chunk(self, chunk: LogChunk) -> None:
        """Send a piece of a log; waits while others are not taken yet."""
        await self._chunk_room.acquire()
        self._chunks.append(chunk)
        self.wake()

    def wake(self) -> None:
        """Have the writer look again."""
        self._filled.set(None)

    async def filled_since(self, version: int) -> int:
        """Wait for something to send; returns what to wait beyond next time."""
        return await self._filled.newer_than(version)

    def take(self) -> Iterator[ConnectRequest]:
        """What is to be sent now, the most urgent first: what came up meanwhile is included, bulk comes last."""
        sources = (
            self._next_heartbeat,
            self._next_answer,
            self._next_observation,
            self._next_result,
            self._next_progress,
            self._next_events,
        )
        while True:
            for source in (*sources, self._next_chunk):
                if (message := source()) is not None:
                    yield message
                    break
            else:
                return

    def _next_heartbeat(self) -> ConnectRequest | None:
        heartbeat, self._heartbeat = self._heartbeat, None
        return None if heartbeat is None else ConnectRequest(heartbeat=heartbeat)

    def _next_answer(self) -> ConnectRequest | None:
        return self._answers.popleft() if self._answers else None

    def _next_observation(self) -> ConnectRequest | None:
        due, self._observation_due = self._observation_due, False
        observed = self._observe() if due else None
        if observed is None or observed == self._observed:
            return None
        self._observed = observed
        return ConnectRequest(observation=observed)

    def _next_result(self) -> ConnectRequest | None:
        return ConnectRequest(command_result=self._results.popleft()) if self._results else None

    def _next_progress(self) -> ConnectRequest | None:
        return ConnectRequest(command_progress=self._progress.popitem()[1]) if self._progress else None

    def _next_events(self) -> ConnectRequest | None:
        batch = self._events.after(self._events_sent, EVENTS_IN_BATCH)
        if not batch:
            return None
        self._events_sent = batch[-1].sequence
        return ConnectRequest(events=EventBatch(events=batch))

    def _next_chunk(self) -> ConnectRequest | None:
        if not self._chunks:
            return None
        self._chunk_room.release()
        return ConnectRequest(log_chunk=self._chunks.popleft())
