"""Facts of models: asked for by the pass, read in the background, kept in memory and in the database.

::

    asked ─▶ being read ─▶ known
                 │           ╰─ after an hour, unless it is a commit: read again, and known meanwhile
                 ╰─▶ not to be read (yet): the reason is kept, and it is tried again, later each time

``path://`` is read by whichever connected host has it; ``hf://`` from the hub, else from a host that has it in its cache.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
from studio.v1.agent_service_pb2 import Command, ModelDescription, ReadModel
from studio_runtime.errors import StudioError

from studio_coordinator.knowledge.questions import ask
from studio_coordinator.leadership import Leadership
from studio_coordinator.model_facts.description import read_description
from studio_coordinator.model_facts.errors import ModelUnreadableError
from studio_coordinator.plan.memory.errors import EstimateError
from studio_coordinator.plan.memory.facts import ModelFacts
from studio_coordinator.plan.memory.facts_document import from_document, to_document
from studio_coordinator.sessions import Session, SessionRegistry
from studio_coordinator.store import model_facts
from studio_coordinator.store.database import Database
from studio_coordinator.wakeup import Wakeup, wait_for

log = structlog.get_logger()

HUB, LOCAL = "hf://", "path://"
# How long placement waits for a model that is being read.
PATIENCE_SECONDS = 10.0
# A directory, or a branch, may have become another model meanwhile.
FRESH_SECONDS = 3600.0
FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS = 5.0, 600.0
ANSWER_SECONDS = 15.0
POLL_SECONDS = 5.0
MOST_MODELS = 4096
READ_AT_ONCE = 4
# Hosts that are asked for one directory before it is given up for this time.
HOSTS_ASKED = 8
COMMIT = re.compile(r"[0-9a-f]{40}")

Key = tuple[str, str]
# OWNER/NAME and revision to facts; blocks on the network, and raises StudioError.
ReadHub = Callable[[str, str], ModelFacts]


@dataclass
class Entry:
    """What is known of one model."""

    asked_at: float
    facts: ModelFacts | None = None
    # Why it could not be read the last time; empty: it was, or nobody tried yet.
    problem: str = ""
    due_at: float = 0.0
    tries: int = 0
    under_way: bool = False


class ModelLibrary:
    """One for each coordinator. ``read_hub`` None: models of the hub are read from hosts alone."""

    def __init__(
        self, database: Database, leadership: Leadership, sessions: SessionRegistry, read_hub: ReadHub | None
    ) -> None:
        # Set whenever something became known, or turned out not to be readable.
        self.changed = Wakeup()
        self._asked = Wakeup()
        self._database = database
        self._leadership = leadership
        self._sessions = sessions
        self._read_hub = read_hub
        self._entries: dict[Key, Entry] = {}

    def facts(self, source: str, revision: str) -> ModelFacts | None:
        """What is known; asks for what is not, and never waits."""
        return self._entry((source, revision)).facts

    def being_read(self, source: str, revision: str) -> bool:
        """Whether it is worth waiting for."""
        entry = self._entry((source, revision))
        waited = time.monotonic() - entry.asked_at
        return entry.facts is None and not entry.problem and waited < PATIENCE_SECONDS

    def problem(self, source: str, revision: str) -> str:
        """Why nothing is known; empty when it is, or may soon be."""
        return self._entry((source, revision)).problem

    async def settled(self, source: str, revision: str) -> None:
        """Wait until it is known, or known to be unreadable, or no longer worth waiting for."""
        while self.being_read(source, revision):
            await wait_for(self.changed.ticket(), 1.0)

    async def run(self) -> None:
        """Read what was asked for, a few at a time."""
        gate = asyncio.Semaphore(READ_AT_ONCE)
        async with asyncio.TaskGroup() as group:
            while True:
                ticket = self._asked.ticket()
                now = time.monotonic()
                for key, entry in self._entries.items():
                    if not entry.under_way and entry.due_at <= now:
                        entry.under_way = True
                        group.create_task(self._read(key, entry, gate), name=f"read {key[0]}")
                await wait_for(ticket, POLL_SECONDS)

    def _entry(self, key: Key) -> Entry:
        entry = self._entries.get(key)
        if entry is None:
            if len(self._entries) >= MOST_MODELS:
                self._entries.pop(next(iter(self._entries)))
            entry = self._entries[key] = Entry(time.monotonic())
            self._asked.set()
        return entry

    async def _read(self, key: Key, entry: Entry, gate: asyncio.Semaphore) -> None:
        async with gate:
            try:
                entry.facts = await self._stored(key, entry) or await self._found(key)
            except StudioError as error:
                entry.problem = error.message
                entry.tries += 1
                wait = min(FIRST_RETRY_SECONDS * 2 ** (entry.tries - 1), LONGEST_RETRY_SECONDS)
                log.info("model_not_read", source=key[0], revision=key[1], reason=error.message)
            except Exception:
                # A model that nobody foresaw must not end the coordinator; it is placed by what the recipe says.
                log.exception("model_not_read", source=key[0], revision=key[1])
                entry.problem, wait = "its files could not be made sense of", LONGEST_RETRY_SECONDS
            else:
                entry.problem, entry.tries = "", 0
                wait = float("inf") if COMMIT.fullmatch(key[1]) else FRESH_SECONDS
        entry.due_at = time.monotonic() + wait
        entry.under_way = False
        self.changed.set()

    async def _stored(self, key: Key, entry: Entry) -> ModelFacts | None:
        """What the database has, if this is the first look and it is fresh enough."""
        if entry.facts is not None:
            return None
        async with self._database.transaction() as conn:
            found = await model_facts.get_facts(conn, *key)
        if found is None:
            return None
        document, read_at = found
        old = (datetime.now(UTC) - read_at).total_seconds() > FRESH_SECONDS
        return None if old and not COMMIT.fullmatch(key[1]) else from_document(document)

    async def _found(self, key: Key) -> ModelFacts:
        """Read it anew and keep it. Raises StudioError."""
        source, revision = key
        reasons: list[str] = []
        async for facts in self._readings(source, revision, reasons):
            async with self._database.transaction() as conn:
                await model_facts.put_facts(conn, source, revision, to_document(facts), datetime.now(UTC))
            return facts
        raise ModelUnreadableError(
            f"{source} cannot be read: {'; '.join(dict.fromkeys(reasons)) or 'no connected host has it'}"
        )

    async def _readings(self, source: str, revision: str, reasons: list[str]) -> AsyncIterator[ModelFacts]:
        """Each place that could say something, in turn; what kept a place from it is added to ``reasons``."""
        if source.startswith(HUB) and self._read_hub is not None:
            try:
                yield await asyncio.to_thread(self._read_hub, source.removeprefix(HUB), revision or "main")
            except (StudioError, EstimateError) as error:
                reasons.append(error.message)
        for session in self._who_may_have(source)[:HOSTS_ASKED]:
            try:
                yield await asyncio.to_thread(read_description, await self._describe(session, source, revision))
            except (StudioError, EstimateError) as error:
                reasons.append(f"{session.host_name}: {error.message}")

    def _who_may_have(self, source: str) -> list[Session]:
        if source.startswith(LOCAL):
            return self._sessions.all()
        return [one for one in self._sessions.all() if any(model.source == source for model in one.replicas.models)]

    async def _describe(self, session: Session, source: str, revision: str) -> ModelDescription:
        question = Command(read_model=ReadModel(source=source, revision=revision))
        answer = await ask(session, question, self._leadership.term, ANSWER_SECONDS)
        if not answer.ok:
            raise ModelUnreadableError(answer.message, answer.hint)
        return answer.model
