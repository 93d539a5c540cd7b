"""Logs that somebody reads: each pull is a task that hands chunks to the outbox until it is done or cancelled."""

import asyncio

from studio.v1.agent_service_pb2 import LogChunk, LogRequest

from studio_agent.logfiles import read_log
from studio_agent.plan.assignment import REPLICA_ID
from studio_agent.session.outbox import Outbox
from studio_agent.settings import StateFolder

MOST_PULLS = 16
LARGEST_TAIL_BYTES = 16 * 1024 * 1024


class LogPulls:
    """The pulls of one connection."""

    def __init__(self, state: StateFolder, outbox: Outbox, group: asyncio.TaskGroup) -> None:
        self._state = state
        self._outbox = outbox
        self._group = group
        self._pulls: dict[str, asyncio.Task[None]] = {}

    def take(self, request: LogRequest) -> None:
        """Begin a pull, or end one."""
        if request.cancel:
            if (pull := self._pulls.pop(request.request_id, None)) is not None:
                pull.cancel()
            return
        if request.request_id in self._pulls:
            return
        task = self._group.create_task(self._pull(request), name=f"log {request.replica_id}")
        self._pulls[request.request_id] = task
        task.add_done_callback(lambda _: self._pulls.pop(request.request_id, None))

    async def _pull(self, request: LogRequest) -> None:
        error = self._refusal(request)
        if not error:
            path = self._state.log(request.replica_id)
            tail = min(max(request.tail_bytes, 0), LARGEST_TAIL_BYTES)
            async for piece in read_log(path, tail, follow=request.follow):
                await self._outbox.chunk(LogChunk(request_id=request.request_id, data=piece))
        await self._outbox.chunk(LogChunk(request_id=request.request_id, end=True, error=error))

    def _refusal(self, request: LogRequest) -> str:
        if len(self._pulls) > MOST_PULLS:
            return f"this host already sends {MOST_PULLS} logs"
        known = REPLICA_ID.fullmatch(request.replica_id) and self._state.log(request.replica_id).exists()
        return "" if known else f"this host has no log of {request.replica_id!r}"
