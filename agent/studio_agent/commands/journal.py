"""The results of the last commands, on disk: what is sent again is answered and not done again."""

import asyncio
import base64
import json
from collections.abc import Callable
from pathlib import Path
from time import time

import structlog
from google.protobuf.message import DecodeError
from studio.v1.agent_service_pb2 import CommandResult
from studio_runtime.process import write_atomically

from studio_agent.threads import to_the_end

MOST_RESULTS = 1000
# Older commands are refused by their deadline.
KEPT_SECONDS = 24 * 3600.0

log = structlog.get_logger()


class CommandJournal:
    """Results by command id, oldest first; ``clock`` gives seconds since the epoch."""

    def __init__(self, path: Path, clock: Callable[[], float] = time) -> None:
        self._path = path
        self._clock = clock
        self._results: dict[str, tuple[float, bytes]] = {}
        self._writing = asyncio.Lock()

    @classmethod
    def load(cls, path: Path, clock: Callable[[], float] = time) -> "CommandJournal":
        """Read the journal; a damaged one is as good as none, for operations may be repeated."""
        journal = cls(path, clock)
        try:
            for entry in json.loads(path.read_bytes()):
                result = base64.b64decode(entry["result"], validate=True)
                journal._results[CommandResult.FromString(result).command_id] = (float(entry["at"]), result)
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError, DecodeError) as error:
            log.warning("command_journal_unreadable", path=str(path), error=str(error))
        journal._prune()
        return journal

    def find(self, command_id: str) -> CommandResult | None:
        """How the command ended; None where that is not known, or not any more."""
        self._prune()
        found = self._results.get(command_id)
        return None if found is None else CommandResult.FromString(found[1])

    async def keep(self, result: CommandResult) -> None:
        """Remember a result; it is on disk when this returns. One that cannot be written is remembered in memory alone."""
        self._results[result.command_id] = (self._clock(), result.SerializeToString())
        self._prune()
        async with self._writing:
            entries = [{"at": at, "result": base64.b64encode(raw).decode()} for at, raw in self._results.values()]
            try:
                await to_the_end(write_atomically, self._path, json.dumps(entries).encode())
            except OSError as error:
                log.warning("command_journal_not_written", path=str(self._path), error=str(error))

    def _prune(self) -> None:
        oldest = self._clock() - KEPT_SECONDS
        young = [(key, entry) for key, entry in self._results.items() if entry[0] >= oldest]
        self._results = dict(young[-MOST_RESULTS:])
