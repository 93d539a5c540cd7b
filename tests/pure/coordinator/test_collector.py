"""When sessions are frozen, and when all is collected again."""

import gc
from collections.abc import Iterator

import pytest
from studio_coordinator.collector import FEWEST_ENDED, Collector
from studio_coordinator.sessions import Session, SessionRegistry


class Loop:
    """Only a cycle keeps it."""

    alive = 0

    def __init__(self) -> None:
        self.me = self
        type(self).alive += 1

    def __del__(self) -> None:
        type(self).alive -= 1


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    Loop.alive = 0
    yield
    gc.unfreeze()
    gc.collect()


def open_sessions(registry: SessionRegistry, number: int) -> list[Session]:
    sessions = [Session(f"h{place}", f"h{place}", 1) for place in range(number)]
    for session in sessions:
        registry.opened(session)
    return sessions


def test_what_came_with_a_session_is_frozen_and_young_garbage_is_not() -> None:
    registry = SessionRegistry()
    collector = Collector(registry)
    collector.look()
    open_sessions(registry, 1)
    Loop()
    before = gc.get_freeze_count()
    collector.look()
    assert Loop.alive == 0
    assert gc.get_freeze_count() > before


def test_a_look_without_news_changes_nothing() -> None:
    registry = SessionRegistry()
    collector = Collector(registry)
    open_sessions(registry, 1)
    collector.look()
    frozen = gc.get_freeze_count()
    kept = [[] for _ in range(100)]
    collector.look()
    assert gc.get_freeze_count() <= frozen
    assert len(kept) == 100


def test_garbage_of_ended_sessions_goes_in_a_quiet_moment_once_there_is_enough() -> None:
    registry = SessionRegistry()
    collector = Collector(registry)
    sessions = open_sessions(registry, FEWEST_ENDED)
    cycle = Loop()
    collector.look()
    del cycle
    for session in sessions[1:]:
        registry.ended(session)
    collector.look()
    collector.look()
    assert Loop.alive == 1, "one session too few"
    registry.ended(sessions[0])
    collector.look()
    assert Loop.alive == 1, "sessions still end"
    collector.look()
    assert Loop.alive == 0
