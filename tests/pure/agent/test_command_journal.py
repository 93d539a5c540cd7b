"""The journal of commands: what it remembers, for how long, and over what damage."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from studio.v1.agent_service_pb2 import CommandResult
from studio_agent.commands.journal import KEPT_SECONDS, MOST_RESULTS, CommandJournal


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def a_result(command_id: str) -> CommandResult:
    return CommandResult(command_id=command_id, ok=True, message=f"{command_id} is done")


async def test_results_outlast_the_agent(tmp_path: Path):
    path, clock = tmp_path / "commands.json", Clock()
    await CommandJournal.load(path, clock).keep(a_result("a"))
    again = CommandJournal.load(path, clock)
    assert again.find("a") == a_result("a")
    assert again.find("b") is None
    assert path.stat().st_mode & 0o777 == 0o600
    clock.now += KEPT_SECONDS + 1
    assert again.find("a") is None
    assert CommandJournal.load(path, clock).find("a") is None


async def test_only_the_last_ones_are_kept(tmp_path: Path):
    path = tmp_path / "commands.json"
    journal = CommandJournal(path, Clock())
    for number in range(MOST_RESULTS):
        journal._results[str(number)] = (1000.0, a_result(str(number)).SerializeToString())
    await journal.keep(a_result("last"))
    again = CommandJournal.load(path, Clock())
    assert (again.find("0"), again.find("1"), again.find("last")) == (None, a_result("1"), a_result("last"))


@given(st.data())
def test_a_damaged_journal_is_an_empty_one(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject):
    path = tmp_path_factory.mktemp("journal") / "commands.json"
    whole = b'[{"at": 1000.0, "result": "CgFhEAEaCWEgaXMgZG9uZQ=="}]'
    path.write_bytes(whole)
    assert CommandJournal.load(path, Clock()).find("a") == a_result("a")
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    assert CommandJournal.load(path, Clock()).find("a") is None


async def test_a_disk_that_will_not_have_it_costs_only_the_memory_of_it(tmp_path: Path):
    (tmp_path / "file").touch()
    journal = CommandJournal(tmp_path / "file" / "commands.json", Clock())
    await journal.keep(a_result("a"))
    assert journal.find("a") == a_result("a")
