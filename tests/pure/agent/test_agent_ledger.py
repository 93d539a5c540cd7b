"""What the agent remembers, and what it makes of a damaged memory."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from fakes.agent_records import NOW, a_failure, a_record, an_assignment, an_engine, assigned
from hypothesis import given
from hypothesis import strategies as st
from studio.v1.replica_pb2 import StartProgress
from studio_agent.ledger import FileStore, Ledger
from studio_agent.ledger_format import decode_record, encode_record
from studio_agent.plan.gpu_blame import Strikes
from studio_agent.plan.record import ReplicaRecord, State


async def a_ledger(path: Path) -> Ledger:
    ledger = Ledger.load(FileStore(path))
    await ledger.accept(an_assignment(assigned(), assigned("other-1", 2, "GPU-1"), generation=7, term=3))
    ledger.put(a_record(restarts=(NOW, NOW + 1), restart_count=2))
    ledger.put(
        a_record(assigned("other-1", 2), State.STATE_FAILED, failure=a_failure(), retry_at=NOW + 4, port_conflicts=1)
    )
    ledger.hold_against_gpus(Strikes().struck(["GPU-1"], "other-1", NOW))
    await ledger.flush()
    return ledger


async def test_what_was_flushed_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "ledger.json"
    written = await a_ledger(path)
    read = Ledger.load(FileStore(path))
    assert (read.assignment, read.highest_term, read.records) == (written.assignment, 3, written.records)
    assert read.applied_generation == 7
    assert read.strikes.by_gpu == {"GPU-1": {"other-1": NOW}}
    assert not read.quarantined
    assert path.stat().st_mode & 0o777 == 0o600


async def test_a_ledger_cut_anywhere_is_known_as_damaged_and_kept_aside(tmp_path: Path) -> None:
    path = tmp_path / "ledger.json"
    await a_ledger(path)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        ledger = Ledger.load(FileStore(path))
        assert ledger.assignment is None
        assert not ledger.records
        assert ledger.quarantined
        assert not path.exists()


async def test_a_changed_byte_is_known_as_damage(tmp_path: Path) -> None:
    path = tmp_path / "ledger.json"
    await a_ledger(path)
    whole = path.read_bytes()
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert Ledger.load(FileStore(path)).quarantined


def test_an_absent_ledger_is_an_empty_one(tmp_path: Path) -> None:
    ledger = Ledger.load(FileStore(tmp_path / "ledger.json"))
    assert (ledger.assignment, ledger.highest_term, ledger.records, ledger.quarantined) == (None, 0, {}, "")


def write_whole(path: Path, body: object) -> None:
    text = json.dumps(body).encode()
    path.write_bytes(hashlib.sha256(text).hexdigest().encode() + b"\n" + text)


@pytest.mark.parametrize("body", [{"format": 99}, {}, [], 7, {"format": 1, "records": [{}]}])
def test_a_whole_ledger_of_another_shape_is_not_guessed_at(tmp_path: Path, body: object) -> None:
    write_whole(tmp_path / "ledger.json", body)
    assert Ledger.load(FileStore(tmp_path / "ledger.json")).quarantined


async def test_what_a_newer_agent_added_does_not_keep_this_one_from_starting(tmp_path: Path) -> None:
    path = tmp_path / "ledger.json"
    written = await a_ledger(path)
    body = json.loads(path.read_bytes().partition(b"\n")[2])
    body["new"] = body["records"][0]["new"] = body["records"][0]["engine"]["new"] = 1
    write_whole(path, body)
    read = Ledger.load(FileStore(path))
    assert (read.quarantined, read.records) == ("", written.records)


async def test_a_folder_that_cannot_be_written_leaves_the_assignment_not_in_force(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    ledger = Ledger(FileStore(tmp_path / "file" / "ledger.json"))
    with pytest.raises(OSError, match="file"):
        await ledger.accept(an_assignment(generation=3, term=5))
    assert (ledger.assignment, ledger.highest_term) == (None, 0)
    ledger.put(a_record())
    with pytest.raises(OSError, match="file"):
        await ledger.flush()
    assert ledger.dirty


async def test_progress_alone_is_not_written(tmp_path: Path) -> None:
    ledger = await a_ledger(tmp_path / "ledger.json")
    changes: list[int] = []
    ledger.changed = lambda: changes.append(1)
    ledger.put(replace(ledger.records["demo-1"], progress=StartProgress(detail="weights")))
    assert not ledger.dirty
    assert changes, "but watchers are told"


async def test_a_term_once_seen_is_never_forgotten(tmp_path: Path) -> None:
    ledger = await a_ledger(tmp_path / "ledger.json")
    ledger.see_term(9)
    ledger.see_term(4)
    await ledger.flush()
    assert Ledger.load(FileStore(tmp_path / "ledger.json")).highest_term == 9


records = st.builds(
    ReplicaRecord,
    assigned=st.builds(assigned, st.text(min_size=1), st.integers(0, 2**40)),
    state=st.sampled_from(State.values()),
    reason=st.text(),
    since=st.floats(allow_nan=False),
    engine=st.none() | st.builds(an_engine, token=st.text(), pid=st.integers(0, 2**22), cgroup=st.text()),
    restarts=st.lists(st.floats(allow_nan=False)).map(tuple),
    restart_count=st.integers(0, 1000),
    failure=st.none() | st.builds(a_failure, st.text()),
    retry_at=st.none() | st.floats(allow_nan=False),
    retry_is_free=st.booleans(),
    gave_up=st.booleans(),
    holds_unknown=st.booleans(),
    port_conflicts=st.integers(0, 9),
    taken_ports=st.lists(st.integers(1, 65535)).map(tuple),
)


@given(records)
def test_any_record_survives_the_way_to_disk_and_back(record: ReplicaRecord) -> None:
    assert decode_record(json.loads(json.dumps(encode_record(record)))) == record
