"""Facts of models in the background: read once, kept, tried again, and never the end of anything else."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from fakes.agent import until
from fakes.models import LLAMA_8B, facts
from studio_coordinator.knowledge import library as library_module
from studio_coordinator.knowledge.library import ModelLibrary, ReadHub
from studio_coordinator.leadership import Leadership
from studio_coordinator.model_facts.errors import ModelUnreadableError
from studio_coordinator.plan.memory.facts import ModelFacts
from studio_coordinator.sessions import SessionRegistry
from studio_coordinator.store.database import Database

COMMIT = "0" * 40
KNOWN = facts(LLAMA_8B)


class Hub:
    """Answers what the test wants, and counts."""

    def __init__(self, *answers: ModelFacts | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, str]] = []

    def read(self, model: str, revision: str) -> ModelFacts:
        self.asked.append((model, revision))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


@asynccontextmanager
async def reading(database: Database, read_hub: ReadHub | None) -> AsyncIterator[ModelLibrary]:
    library = ModelLibrary(database, Leadership(database, "c1", "here"), SessionRegistry(), read_hub)
    task = asyncio.create_task(library.run())
    try:
        yield library
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_what_is_asked_for_is_read_and_found_again_by_the_next_coordinator(database: Database) -> None:
    hub = Hub(KNOWN)
    async with reading(database, hub.read) as library:
        assert library.facts("hf://a/b", COMMIT) is None
        assert library.being_read("hf://a/b", COMMIT)
        await library.settled("hf://a/b", COMMIT)
        assert library.facts("hf://a/b", COMMIT) == KNOWN
        assert not library.being_read("hf://a/b", COMMIT)
    async with reading(database, None) as library:
        await library.settled("hf://a/b", COMMIT)
        assert library.facts("hf://a/b", COMMIT) == KNOWN
    assert hub.asked == [("a/b", COMMIT)]


async def test_what_could_not_be_read_has_a_reason_and_is_tried_again(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library_module, "FIRST_RETRY_SECONDS", 0.0)
    monkeypatch.setattr(library_module, "POLL_SECONDS", 0.02)
    hub = Hub(ModelUnreadableError("the hub is away"), KNOWN)
    async with reading(database, hub.read) as library:
        await library.settled("hf://a/b", COMMIT)
        await until(lambda: library.facts("hf://a/b", COMMIT) == KNOWN)
        assert library.problem("hf://a/b", COMMIT) == ""


async def test_a_model_that_nobody_foresaw_harms_no_other(database: Database) -> None:
    hub = Hub(ZeroDivisionError("heads"), KNOWN)
    async with reading(database, hub.read) as library:
        await library.settled("hf://odd/one", COMMIT)
        assert library.problem("hf://odd/one", COMMIT) == "its files could not be made sense of"
        await library.settled("hf://a/b", COMMIT)
        assert library.facts("hf://a/b", COMMIT) == KNOWN


async def test_without_a_hub_and_without_hosts_it_says_so(database: Database) -> None:
    async with reading(database, None) as library:
        for source in ("hf://a/b", "path:///srv/models/x"):
            await library.settled(source, "")
            assert library.problem(source, "") == f"{source} cannot be read: no connected host has it"


async def test_placement_waits_only_so_long_for_a_hub_that_hangs(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library_module, "PATIENCE_SECONDS", 0.1)
    never = threading.Event()

    def hang(_model: str, _revision: str) -> ModelFacts:
        never.wait()
        return KNOWN

    async with reading(database, hang) as library:
        try:
            await library.settled("hf://a/b", COMMIT)
            assert not library.being_read("hf://a/b", COMMIT)
            assert library.facts("hf://a/b", COMMIT) is None
        finally:
            never.set()
