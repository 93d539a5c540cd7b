"""``CommandDesk``: takes commands in, runs each once, and tells how far it is over whichever connection there is."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from time import time
from typing import Protocol

import structlog
from studio.v1.agent_service_pb2 import Command, CommandProgress, CommandResult
from studio_runtime.errors import StudioError

from studio_agent.commands.journal import CommandJournal
from studio_agent.environments.errors import EnvironmentFailedError

MOST_RUNNING = 16

log = structlog.get_logger()


class Outlet(Protocol):
    """Where answers go; neither call waits."""

    def progress(self, progress: CommandProgress) -> None:
        """Replaces what was not sent yet of the same command."""

    def result(self, result: CommandResult) -> None:
        """How a command ended."""


Report = Callable[[CommandProgress], None]
Operate = Callable[[Command, Report], Awaitable[CommandResult]]


class CommandDesk:
    """Runs commands as tasks of ``group``. ``operate`` does one; it raises StudioError or OSError where it fails."""

    def __init__(self, journal: CommandJournal, operate: Operate, group: asyncio.TaskGroup) -> None:
        self._journal = journal
        self._operate = operate
        self._group = group
        self._running: dict[str, CommandProgress] = {}
        self._outlet: Outlet | None = None

    @contextmanager
    def answering(self, outlet: Outlet) -> Iterator[None]:
        """Answer over ``outlet`` while the block runs; outside of any nobody listens, and the journal keeps the results."""
        self._outlet = outlet
        try:
            yield
        finally:
            self._outlet = None

    def take(self, command: Command, highest_term: int) -> None:
        """Do ``command``, or answer it where it is done, under way, or not to be done."""
        known = self._journal.find(command.command_id) or self._refusal(command, highest_term)
        if known is not None:
            self._answer(known)
        elif command.command_id in self._running:
            self._tell(self._running[command.command_id])
        else:
            self._running[command.command_id] = CommandProgress(command_id=command.command_id, detail="begun")
            self._group.create_task(self._run(command), name=f"command {command.WhichOneof('operation')}")

    def _refusal(self, command: Command, highest_term: int) -> CommandResult | None:
        def refused(reason: str, message: str, hint: str) -> CommandResult:
            return CommandResult(command_id=command.command_id, reason=reason, message=message, hint=hint)

        if command.term < highest_term:
            return refused("stale_term", "it comes from a coordinator that leads no longer", "Ask the one that leads.")
        if command.HasField("deadline") and command.deadline.ToNanoseconds() / 1e9 < time():
            return refused("too_late", "it came after its deadline", "Compare the clocks of host and coordinator.")
        if len(self._running) >= MOST_RUNNING and command.command_id not in self._running:
            return refused("overloaded", f"{MOST_RUNNING} commands run on this host already", "Wait for one of them.")
        return None

    async def _run(self, command: Command) -> None:
        def report(progress: CommandProgress) -> None:
            progress.command_id = command.command_id
            self._running[command.command_id] = progress
            self._tell(progress)

        kind = command.WhichOneof("operation")
        log.info("command_begun", command=command.command_id, operation=kind)
        try:
            result = await self._operate(command, report)
        except StudioError as error:
            reason = error.failure_reason if isinstance(error, EnvironmentFailedError) else error.reason
            result = CommandResult(reason=reason, message=error.message, hint=error.hint)
        except OSError as error:
            result = CommandResult(reason="host", message=f"this host would not have it: {error}")
        except Exception as error:
            # A defect of one operation must not end the agent.
            log.exception("command_defect", command=command.command_id, operation=kind)
            result = CommandResult(reason="agent_defect", message=f"the agent failed: {error!r}", hint="See its log.")
        result.command_id = command.command_id
        # What was only read is read again.
        if not (result.HasField("model") or result.HasField("preview")):
            await self._journal.keep(result)
        del self._running[command.command_id]
        log.info("command_ended", command=command.command_id, operation=kind, ok=result.ok, reason=result.reason)
        self._answer(result)

    def _tell(self, progress: CommandProgress) -> None:
        if self._outlet is not None:
            self._outlet.progress(progress)

    def _answer(self, result: CommandResult) -> None:
        if self._outlet is not None:
            self._outlet.result(result)
