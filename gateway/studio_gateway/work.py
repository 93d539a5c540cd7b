"""An answer in the making, whoever makes it."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

import structlog

from studio_gateway.openai_errors import ApiError, internal_error

log = structlog.get_logger()

# Called once, when the answer is complete, or with what ended it.
Done = Callable[[ApiError | None], None]


class Work(Protocol):
    """What a client that leaves, or falls behind, has to be able to stop."""

    def stop(self) -> None:
        """It is wanted no more; ``Done`` is not called any more."""

    def pause(self) -> None:
        """The client has to catch up first."""

    def resume(self) -> None:
        """The client has caught up."""


class TaskWork:
    """Work as a task, for what a library does in coroutines. ``serve`` is given an event that is set while it may send."""

    def __init__(
        self, serve: Callable[[asyncio.Event], Coroutine[Any, Any, None]], request_id: str, done: Done
    ) -> None:
        self._may_send = asyncio.Event()
        self._may_send.set()
        self._task = asyncio.create_task(self._run(serve, request_id, done))

    def stop(self) -> None:
        """Cancel it."""
        self._task.cancel()

    def pause(self) -> None:
        """Have it wait before the next part."""
        self._may_send.clear()

    def resume(self) -> None:
        """Let it go on."""
        self._may_send.set()

    async def _run(
        self, serve: Callable[[asyncio.Event], Coroutine[Any, Any, None]], request_id: str, done: Done
    ) -> None:
        error: ApiError | None = None
        try:
            await serve(self._may_send)
        except ApiError as raised:
            error = raised
        except Exception:
            log.exception("request_failed", request=request_id)
            error = internal_error(request_id)
        done(error)
