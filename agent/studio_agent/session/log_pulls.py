"""Logs that somebody reads: each pull is a task that hands chunks to the outbox until it is done or cancelled."""

import asyncio
from collections.abc import AsyncIterator

from studio.v1.agent_service_pb2 import LogChunk, LogRequest
from studio_runtime.logging import redacted

from studio_agent.logfiles import read_log
from studio_agent.plan.assignment import REPLICA_ID
from studio_agent.session.outbox import Outbox
from studio_agent.settings import StateFolder

MOST_PULLS = 16
LARGEST_TAIL_BYTES = 16 * 1024 * 1024
# What is longer is sent in parts, between which a secret may lie.
LONGEST_LINE_BYTES = 64 * 1024


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
            async for piece in without_secrets(read_log(path, tail, follow=request.follow)):
                await self._outbox.chunk(LogChunk(request_id=request.request_id, data=piece))
        await self._outbox.chunk(LogChunk(request_id=request.request_id, end=True, error=error))

    def _refusal(self, request: LogRequest) -> str:
        if len(self._pulls) > MOST_PULLS:
            return f"this host already sends {MOST_PULLS} logs"
        known = REPLICA_ID.fullmatch(request.replica_id) and self._state.log(request.replica_id).exists()
        return "" if known else f"this host has no log of {request.replica_id!r}"


async def without_secrets(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """``pieces`` of a log, cut at the ends of lines, without the secrets that this process knows: an engine may print its own."""
    rest = b""
    async for piece in pieces:
        rest += piece
        # A progress bar goes back to the beginning of its line.
        end = max(rest.rfind(b"\n"), rest.rfind(b"\r")) + 1
        if not end and len(rest) > LONGEST_LINE_BYTES:
            end = len(rest)
        if end:
            yield _hidden(rest[:end])
            rest = rest[end:]
    if rest:
        yield _hidden(rest)


def _hidden(text: bytes) -> bytes:
    return redacted(text.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")
