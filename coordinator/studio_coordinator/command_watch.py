"""How far one command on a host is, as its session hears it: the latest progress, then the result.

Progress that nobody has read yet is replaced, so a slow reader costs nothing.
"""

import asyncio
from collections.abc import AsyncIterator

from studio.v1.agent_service_pb2 import CommandProgress, CommandResult


class CommandWatch:
    """One command, over one session."""

    def __init__(self) -> None:
        self._news = asyncio.Event()
        self._progress: CommandProgress | None = None
        self._result: CommandResult | None = None
        self._is_over = False

    def take(self, said: CommandProgress | CommandResult) -> None:
        """The host says how far it is, or how it ended."""
        if isinstance(said, CommandResult):
            self._result = said
        else:
            self._progress = said
        self._news.set()

    def session_over(self) -> None:
        """Nothing more is heard over this session."""
        self._is_over = True
        self._news.set()

    async def heard(self) -> AsyncIterator[CommandProgress | CommandResult]:
        """What is heard, up to the result; without one where the session ends first."""
        while True:
            await self._news.wait()
            self._news.clear()
            if self._result is not None:
                yield self._result
                return
            if self._progress is not None:
                progress, self._progress = self._progress, None
                yield progress
            if self._is_over:
                return
