"""What every ledger store must do, in a file and in memory; and what a ledger makes of one that saves nothing."""

from collections.abc import Callable
from pathlib import Path

import pytest
from fakes.agent_records import a_record, an_assignment, assigned
from fakes.ledger_stores import FailingStore, MemoryStore
from studio_agent.ledger import FileStore, Ledger, LedgerStore

# Not text, not empty, with the bytes that a careless store would translate.
CONTENT = b"\x00first\r\n\xff"


class OpenedStore:
    """A store, and how a test sees what it has put aside."""

    def __init__(self, store: LedgerStore, aside: Callable[[str], bytes]) -> None:
        self.store = store
        self.aside = aside


@pytest.fixture(params=["file", "memory", "failing, repaired"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> OpenedStore:
    if request.param == "file":
        # The folder is not there yet.
        return OpenedStore(FileStore(tmp_path / "state" / "ledger.json"), lambda place: Path(place).read_bytes())
    memory = MemoryStore() if request.param == "memory" else FailingStore(broken=False)
    return OpenedStore(memory, memory.aside.__getitem__)


def test_nothing_is_kept_at_first(opened: OpenedStore) -> None:
    assert opened.store.load() is None


@pytest.mark.parametrize("newest", [CONTENT, b"", b"x" * 100_000])
def test_what_was_saved_last_is_loaded_however_often(opened: OpenedStore, newest: bytes) -> None:
    opened.store.save(b"a longer content that came before")
    opened.store.save(newest)
    assert opened.store.load() == newest
    assert opened.store.load() == newest


def test_what_is_put_aside_is_whole_and_no_longer_kept(opened: OpenedStore) -> None:
    opened.store.save(CONTENT)
    place = opened.store.quarantine()
    assert opened.store.load() is None
    assert opened.aside(place) == CONTENT


def test_each_quarantine_has_its_own_place(opened: OpenedStore) -> None:
    opened.store.save(b"first")
    first = opened.store.quarantine()
    opened.store.save(b"second")
    second = opened.store.quarantine()
    assert (opened.aside(first), opened.aside(second)) == (b"first", b"second")
    opened.store.save(b"third")
    assert opened.store.load() == b"third"


async def test_a_ledger_is_read_back_from_it(opened: OpenedStore) -> None:
    written = Ledger.load(opened.store)
    await written.accept(an_assignment(assigned(), generation=7, term=3))
    written.put(a_record())
    await written.flush()
    read = Ledger.load(opened.store)
    assert (read.assignment, read.highest_term, read.records) == (written.assignment, 3, written.records)
    assert (read.quarantined, read.dirty) == ("", False)


async def test_a_damaged_ledger_is_put_aside_and_replaced(opened: OpenedStore) -> None:
    opened.store.save(CONTENT)
    ledger = Ledger.load(opened.store)
    assert opened.aside(ledger.quarantined) == CONTENT
    assert (ledger.assignment, ledger.records) == (None, {})
    await ledger.accept(an_assignment(generation=2))
    assert Ledger.load(opened.store).applied_generation == 2


def test_a_file_is_for_its_owner_alone_and_seen_by_the_next_agent(tmp_path: Path) -> None:
    path = tmp_path / "ledger.json"
    FileStore(path).save(CONTENT)
    assert path.stat().st_mode & 0o777 == 0o600
    assert FileStore(path).load() == CONTENT
    assert [each.name for each in tmp_path.iterdir()] == ["ledger.json"]


def test_a_file_that_cannot_be_read_is_not_taken_for_none(tmp_path: Path) -> None:
    (tmp_path / "ledger.json").mkdir()
    with pytest.raises(IsADirectoryError):
        FileStore(tmp_path / "ledger.json").load()


async def test_where_nothing_can_be_saved_the_older_stays_in_force_and_on_disk() -> None:
    store = FailingStore(broken=False)
    ledger = Ledger.load(store)
    await ledger.accept(an_assignment(assigned(), generation=1, term=1))
    store.break_down()
    with pytest.raises(OSError, match="No space left"):
        await ledger.accept(an_assignment(generation=2, term=5))
    ledger.put(a_record())
    with pytest.raises(OSError, match="No space left"):
        await ledger.flush()
    assert (ledger.applied_generation, ledger.highest_term, ledger.dirty) == (1, 1, True)
    assert (Ledger.load(store).applied_generation, Ledger.load(store).records) == (1, {})

    store.repair()
    await ledger.flush()
    assert not ledger.dirty
    assert Ledger.load(store).records == ledger.records
