import subprocess
import sys
from pathlib import Path

import pytest
from fakes.console import silent_report
from studio_cli.up import leftovers
from studio_cli.up.leftovers import end_leftovers, roster_of
from studio_runtime.process import ProcessIdentity
from studio_runtime.settings import Home

DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
MEEK = "import time; print('up', flush=True); time.sleep(600)"


def started(code: str) -> subprocess.Popen[bytes]:
    """A process that runs ``code``, which has said that it is up."""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    return process


async def test_leftovers_are_told_to_stop_and_killed_where_they_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(leftovers, "PATIENCE_SECONDS", 0.5)
    home = Home(tmp_path)
    processes = [started(DEAF), started(MEEK)]
    try:
        identities = []
        for process in processes:
            identity = ProcessIdentity.of(process.pid)
            assert identity is not None
            identities.append(identity)
        roster_of(home).write(dict(zip(("agent", "gateway"), identities, strict=True)))
        assert await end_leftovers(home, silent_report()) == ["agent", "gateway"]
        assert [process.wait(5) for process in processes] == [-9, -15]
        assert not roster_of(home).running()
    finally:
        for process in processes:
            process.kill()
            process.communicate()


async def test_a_stranger_with_a_known_pid_is_let_alone(tmp_path: Path):
    home = Home(tmp_path)
    with started(MEEK) as process:
        identity = ProcessIdentity.of(process.pid)
        assert identity is not None
        roster_of(home).write({"agent": ProcessIdentity(process.pid, identity.start_ticks - 1)})
        assert await end_leftovers(home, silent_report()) == []
        assert process.poll() is None
        process.kill()


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"boot_id": "x", "roles": {"agent": [1, 1]}}', '{"roles": {"agent": 3}}']
)
def test_a_broken_or_old_roster_names_nobody(tmp_path: Path, content: str):
    roster = roster_of(Home(tmp_path))
    roster.file.parent.mkdir()
    roster.file.write_text(content, encoding="utf-8")
    assert roster.running() == {}
