"""What every launcher owes: engines that outlive the agent, are known for certain, and end whole.

Run with cgroups where this machine gives them, and without.
"""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from studio_agent.launch import LaunchError, ProcessLauncher
from studio_agent.launch.cgroup import EngineCgroups
from studio_agent.plan.record import Engine
from studio_runtime.process import ProcessIdentity, boot_id

PYTHON = sys.executable

SLEEPS = "import time; print('up', flush=True); time.sleep(600)"
IGNORES_SIGTERM = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + SLEEPS
# A child, a child in a session of its own, and one whose parent is gone and that left session and environment.
FORKS = """
import os, subprocess, sys, time
nap = [sys.executable, '-c', 'import time; time.sleep(600)']
subprocess.Popen(nap)
subprocess.Popen(nap, start_new_session=True)
if os.fork() == 0:
    subprocess.Popen(nap)
    os._exit(0)
os.wait()
print('up', flush=True)
time.sleep(600)
"""


@pytest.fixture(params=["without cgroups", *(["with cgroups"] if EngineCgroups.prepare("probe").root else [])])
async def launcher(request: pytest.FixtureRequest) -> AsyncIterator[ProcessLauncher]:
    host_id = os.urandom(8).hex()
    cgroups = EngineCgroups(None) if request.param == "without cgroups" else EngineCgroups.prepare(host_id)
    launcher = ProcessLauncher(host_id, cgroups)
    yield launcher
    for found in await launcher.survey():
        await launcher.kill(an_engine(Path("/"), launcher, found.token))


def an_engine(folder: Path, launcher: ProcessLauncher, name: str = "demo-1.1.aa") -> Engine:
    log = folder / "engine.log"
    return Engine(name, port=0, boot_id=boot_id(), log_path=str(log), cgroup=launcher.cgroup_for(name))


async def started(launcher: ProcessLauncher, folder: Path, code: str) -> Engine:
    engine = await launcher.start(an_engine(folder, launcher), [PYTHON, "-c", code], {"PATH": "/usr/bin:/bin"})
    await until_log(engine, "up")
    return engine


def has_cgroup(engine: Engine) -> bool:
    return bool(engine.cgroup) and Path(engine.cgroup).exists()


def assert_private_log_and_no_input(engine: Engine) -> None:
    assert Path(engine.log_path).stat().st_mode & 0o777 == 0o600
    assert Path(f"/proc/{engine.pid}/fd/0").readlink() == Path("/dev/null")


def log_text(engine: Engine) -> str:
    return Path(engine.log_path).read_text()


async def until_log(engine: Engine, text: str) -> None:
    async with asyncio.timeout(20):
        while text not in log_text(engine):
            await asyncio.sleep(0.02)


async def ended_whole(launcher: ProcessLauncher, engine: Engine) -> None:
    await launcher.kill(engine)
    async with asyncio.timeout(20):
        while await launcher.members(engine):
            await asyncio.sleep(0.02)
    await launcher.exited(engine)
    await launcher.release(engine)
    assert not has_cgroup(engine)
    assert engine.token not in [found.token for found in await launcher.survey()]


async def test_an_engine_has_its_own_session_its_log_and_its_environment_alone(
    launcher: ProcessLauncher, tmp_path: Path
) -> None:
    os.environ["STUDIO_TEST_LEAK"] = "1"
    try:
        engine = await started(launcher, tmp_path, "import os; print(sorted(os.environ)); " + SLEEPS)
    finally:
        del os.environ["STUDIO_TEST_LEAK"]
    assert os.getsid(engine.pid) == engine.pid != os.getsid(0)
    assert launcher.is_running(engine)
    text = log_text(engine)
    assert "STUDIO_REPLICA" in text
    assert "STUDIO_TEST_LEAK" not in text
    assert_private_log_and_no_input(engine)
    if engine.cgroup:
        assert str(engine.pid) in (Path(engine.cgroup) / "cgroup.procs").read_text().split()
    await ended_whole(launcher, engine)


@pytest.mark.parametrize(
    ("code", "expected"), [("raise SystemExit(7)", 7), ("import os; os.kill(os.getpid(), 11)", -11)]
)
async def test_the_exit_code_is_known(launcher: ProcessLauncher, tmp_path: Path, code: str, expected: int) -> None:
    engine = await launcher.start(an_engine(tmp_path, launcher), [PYTHON, "-c", code], {})
    assert await launcher.exited(engine) == expected
    assert not launcher.is_running(engine)
    assert await launcher.exited(engine) is None, "it can be asked for once; asking again does not wait"
    await launcher.release(engine)


async def test_sigterm_reaches_the_leader(launcher: ProcessLauncher, tmp_path: Path) -> None:
    engine = await started(launcher, tmp_path, SLEEPS)
    await launcher.terminate(engine)
    assert await launcher.exited(engine) == -signal.SIGTERM
    await ended_whole(launcher, engine)


async def test_the_whole_tree_is_killed_whatever_it_forked(launcher: ProcessLauncher, tmp_path: Path) -> None:
    engine = await started(launcher, tmp_path, FORKS)
    members = await launcher.members(engine)
    assert len(members) == 4
    await ended_whole(launcher, engine)
    assert not any(identity.is_running() for identity in members)


async def test_leftovers_are_found_after_their_leader_died(launcher: ProcessLauncher, tmp_path: Path) -> None:
    engine = await started(launcher, tmp_path, FORKS)
    os.kill(engine.pid, signal.SIGKILL)
    assert await launcher.exited(engine) == -signal.SIGKILL
    assert len(await launcher.members(engine)) == 3
    (found,) = await launcher.survey()
    assert found.token == engine.token
    await ended_whole(launcher, engine)


async def test_what_ignores_sigterm_is_killed(launcher: ProcessLauncher, tmp_path: Path) -> None:
    engine = await started(launcher, tmp_path, IGNORES_SIGTERM)
    await launcher.terminate(engine)
    assert launcher.is_running(engine)
    await ended_whole(launcher, engine)


async def test_a_pid_that_is_another_process_now_is_never_touched(launcher: ProcessLauncher, tmp_path: Path) -> None:
    stranger = subprocess.Popen([PYTHON, "-c", "import time; time.sleep(600)"], start_new_session=True)  # noqa: ASYNC220 - a stranger
    try:
        identity = ProcessIdentity.of(stranger.pid)
        assert identity is not None
        reused = replace(an_engine(tmp_path, launcher), pid=stranger.pid, start_ticks=identity.start_ticks - 1)
        other_boot = replace(reused, start_ticks=identity.start_ticks, boot_id="another boot")
        for engine in (reused, other_boot):
            assert not launcher.is_running(engine)
            assert await launcher.exited(engine) is None
            assert await launcher.members(engine) == []
            await launcher.terminate(engine)
            await launcher.kill(engine)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


async def test_engines_of_another_host_folder_are_strangers(launcher: ProcessLauncher, tmp_path: Path) -> None:
    engine = await started(launcher, tmp_path, SLEEPS)
    other = ProcessLauncher("another-host", EngineCgroups(None))
    assert await other.survey() == []
    assert await other.members(replace(engine, pid=0, cgroup="")) == []
    await ended_whole(launcher, engine)


async def test_an_engine_outlives_its_agent_and_the_next_one_knows_it(
    launcher: ProcessLauncher, tmp_path: Path
) -> None:
    engine = await started(launcher, tmp_path, SLEEPS)
    child = launcher._children.pop(ProcessIdentity(engine.pid, engine.start_ticks))
    (found,) = await launcher.survey()
    assert found.leader == ProcessIdentity(engine.pid, engine.start_ticks)
    waiting = asyncio.ensure_future(launcher.exited(engine))
    await asyncio.sleep(0)
    assert not waiting.done()
    os.kill(engine.pid, signal.SIGKILL)
    assert await waiting is None, "not our child any more: its end is seen, its code is not"
    child.wait()
    await ended_whole(launcher, engine)


async def test_a_program_that_cannot_be_run_says_so_in_the_log(launcher: ProcessLauncher, tmp_path: Path) -> None:
    engine = await launcher.start(an_engine(tmp_path, launcher), ["/no/such/program"], {})
    assert await launcher.exited(engine) == 127
    assert "cannot run /no/such/program: No such file" in log_text(engine)
    await launcher.release(engine)


async def test_a_log_that_cannot_be_written_is_a_launch_error(launcher: ProcessLauncher, tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match="cannot start"):
        await launcher.start(an_engine(tmp_path / "missing", launcher), [PYTHON, "-c", SLEEPS], {})
    assert await launcher.survey() == []


async def test_a_cancelled_start_leaves_nothing(launcher: ProcessLauncher, tmp_path: Path) -> None:
    starting = asyncio.ensure_future(launcher.start(an_engine(tmp_path, launcher), [PYTHON, "-c", SLEEPS], {}))
    await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert await launcher.survey() == []
