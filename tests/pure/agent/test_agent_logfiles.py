"""Engines' log files."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from studio_agent import logfiles
from studio_agent.logfiles import LineFollower, cut_if_large, lines_since, prepare_log, read_log


@given(st.lists(st.binary(max_size=20), max_size=20))
def test_a_follower_gives_each_whole_line_once(tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes]) -> None:
    path = tmp_path_factory.mktemp("log") / "engine.log"
    follower, seen = LineFollower(path, 0), []
    assert follower.new_lines() == []
    with path.open("ab") as log:
        for piece in pieces:
            log.write(piece)
            log.flush()
            seen += follower.new_lines()
    whole = b"".join(pieces).replace(b"\r", b"\n")
    finished = whole[: whole.rfind(b"\n") + 1].split(b"\n")
    assert seen == [line.decode("utf-8", "replace") for line in finished if line]


def test_each_engine_has_its_own_part_of_the_log(tmp_path: Path) -> None:
    path = tmp_path / "demo-1" / "engine.log"
    assert prepare_log(path) == 0
    path.write_text("of the first\n")
    offset = prepare_log(path)
    with path.open("a") as log:
        log.write("of the second\n")
    assert lines_since(path, offset) == ["of the second"]
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o710


def test_a_log_that_grew_too_long_is_put_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logfiles, "LARGEST_BYTES", 10)
    path = tmp_path / "engine.log"
    path.write_text("more than ten bytes\n")
    assert prepare_log(path) == 0
    assert path.read_text() == ""
    assert (tmp_path / "engine.log.1").read_text() == "more than ten bytes\n"


def test_of_a_long_log_the_beginning_and_the_end_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logfiles, "HEAD_BYTES", 8)
    monkeypatch.setattr(logfiles, "TAIL_BYTES", 8)
    path = tmp_path / "engine.log"
    path.write_text("cause 1\n" + "noise\n" * 100 + "the end\n")
    assert lines_since(path, 0) == ["cause 1", "", "the end"]


def test_no_log_has_no_lines(tmp_path: Path) -> None:
    assert lines_since(tmp_path / "none.log", 0) == []


async def test_the_tail_is_read_in_bounded_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logfiles, "CHUNK_BYTES", 4)
    path = tmp_path / "engine.log"
    path.write_bytes(b"0123456789")
    assert [piece async for piece in read_log(path, 9, follow=False)] == [b"1234", b"5678", b"9"]
    assert [piece async for piece in read_log(path, 0, follow=False)] == []


async def test_a_log_that_was_put_aside_is_followed_in_its_successor(tmp_path: Path) -> None:
    path = tmp_path / "engine.log"
    path.write_bytes(b"old text")
    reader = read_log(path, 100, follow=True)
    assert await anext(reader) == b"old text"
    path.replace(tmp_path / "engine.log.1")
    path.write_bytes(b"new")
    assert await anext(reader) == b"new"
    await reader.aclose()


def test_the_log_of_a_running_engine_is_cut_and_the_engine_writes_on(tmp_path: Path) -> None:
    path = tmp_path / "engine.log"
    with path.open("ab", buffering=0) as engine:
        engine.write(b"old\n" * 100)
        assert not cut_if_large(path, 400)
        engine.write(b"more\n")
        assert cut_if_large(path, 400)
        engine.write(b"new\n")
    assert path.read_bytes() == b"new\n"
    older = path.with_suffix(".log.1")
    assert older.read_bytes() == b"old\n" * 100 + b"more\n"
    assert older.stat().st_mode & 0o777 == 0o600


def test_a_second_cut_replaces_the_first(tmp_path: Path) -> None:
    path = tmp_path / "engine.log"
    for text in (b"first", b"2nd"):
        path.write_bytes(text)
        assert cut_if_large(path, 1)
    assert path.with_suffix(".log.1").read_bytes() == b"2nd"
    assert path.read_bytes() == b""


def test_without_room_for_a_copy_the_log_is_emptied_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "engine.log"
    path.write_bytes(b"text")
    # Where the copy would go there is something that cannot be written.
    path.with_suffix(".log.1").mkdir()
    assert cut_if_large(path, 1)
    assert path.read_bytes() == b""


def test_no_log_is_no_error(tmp_path: Path) -> None:
    assert not cut_if_large(tmp_path / "none.log", 0)
