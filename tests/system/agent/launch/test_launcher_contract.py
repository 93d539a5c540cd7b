"""What every launcher owes: engines that outlive the agent, are known for certain, and end whole."""

import asyncio
import os
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from fakes.launched import (
    FORKS,
    IGNORES_SIGTERM,
    PYTHON,
    SLEEPS,
    an_engine,
    ended_whole,
    log_text,
    started,
    until_log,
)
from studio_agent.launch import Launcher, LaunchError
from studio_runtime.process import ProcessIdentity

TELLS_ITS_SURROUNDINGS = "import os; print(sorted(os.environ), 'input', os.readlink('/proc/self/fd/0')); " + SLEEPS


async def test_an_engine_has_its_own_session_its_log_and_its_environment_alone(
    launcher: Launcher, folder: Path
) -> None:
    os.environ["STUDIO_TEST_LEAK"] = "1"
    try:
        engine = await started(launcher, folder, TELLS_ITS_SURROUNDINGS)
    finally:
        del os.environ["STUDIO_TEST_LEAK"]
    assert os.getsid(engine.pid) == engine.pid != os.getsid(0)
    assert launcher.is_running(engine)
    first, *_ = log_text(engine).splitlines()
    assert first == "['LC_CTYPE', 'PATH', 'STUDIO_HOST', 'STUDIO_REPLICA'] input /dev/null"
    log_mode = await asyncio.to_thread(lambda: Path(engine.log_path).stat().st_mode)
    assert log_mode & 0o007 == 0, "only the agent and its engines read it"
    if engine.cgroup:
        procs = await asyncio.to_thread((Path(engine.cgroup) / "cgroup.procs").read_text)
        assert str(engine.pid) in procs.split()
    await ended_whole(launcher, engine)


@pytest.mark.parametrize(
    ("code", "expected"),
    [("raise SystemExit(7)", 7), ("pass", 0), ("import os; os.kill(os.getpid(), 11)", -11)],
)
async def test_the_exit_code_is_known(launcher: Launcher, folder: Path, code: str, expected: int) -> None:
    engine = await launcher.start(an_engine(folder, launcher), [PYTHON, "-c", code], {})
    assert await launcher.exited(engine) == expected
    assert not launcher.is_running(engine)
    assert await launcher.exited(engine) in (None, expected), "asking again does not wait"
    await launcher.release(engine)
    assert await launcher.exited(engine) is None


async def test_arguments_and_environment_arrive_unchanged(launcher: Launcher, folder: Path) -> None:
    odd = ["", " ", "a b", "$HOME", "${PATH}", "%i", "%%", "\\x41", "'\"", "line\nline", "ü—", "--flag=;id", "@file"]
    engine = await launcher.start(
        an_engine(folder, launcher),
        [PYTHON, "-c", "import os, sys; print(sys.argv[1:] == eval(os.environ['ODD']), flush=True)", *odd],
        {"ODD": repr(odd)},
    )
    assert await launcher.exited(engine) == 0
    assert log_text(engine) == "True\n"
    await launcher.release(engine)


async def test_sigterm_reaches_the_leader(launcher: Launcher, folder: Path) -> None:
    engine = await started(launcher, folder, SLEEPS)
    await launcher.terminate(engine)
    assert await launcher.exited(engine) == -signal.SIGTERM
    await ended_whole(launcher, engine)


async def test_aborted_processes_write_where_they_stand(launcher: Launcher, folder: Path) -> None:
    code = "import faulthandler; faulthandler.enable(); " + FORKS
    engine = await started(launcher, folder, f"exec({code!r})")
    members = await launcher.members(engine)
    await launcher.abort(engine)
    assert await launcher.exited(engine) == -signal.SIGABRT
    await until_log(engine, "most recent call first")
    await ended_whole(launcher, engine)
    assert not any(identity.is_running() for identity in members)


async def test_the_whole_tree_is_killed_whatever_it_forked(launcher: Launcher, folder: Path) -> None:
    engine = await started(launcher, folder, FORKS)
    members = await launcher.members(engine)
    assert len(members) == 4
    await ended_whole(launcher, engine)
    assert not any(identity.is_running() for identity in members)


async def test_what_ignores_sigterm_is_killed(launcher: Launcher, folder: Path) -> None:
    engine = await started(launcher, folder, IGNORES_SIGTERM)
    await launcher.terminate(engine)
    assert launcher.is_running(engine)
    await ended_whole(launcher, engine)


async def test_a_pid_that_is_another_process_now_is_never_touched(launcher: Launcher, folder: Path) -> None:
    stranger = subprocess.Popen([PYTHON, "-c", "import time; time.sleep(600)"], start_new_session=True)  # noqa: ASYNC220 - a stranger
    try:
        identity = ProcessIdentity.of(stranger.pid)
        assert identity is not None
        reused = replace(an_engine(folder, launcher), pid=stranger.pid, start_ticks=identity.start_ticks - 1)
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


async def test_a_survey_knows_who_leads(launcher: Launcher, folder: Path) -> None:
    engine = await started(launcher, folder, FORKS)
    (found,) = await launcher.survey()
    assert found.token == engine.token
    assert found.leader == ProcessIdentity(engine.pid, engine.start_ticks)
    assert found.cgroup == engine.cgroup
    await ended_whole(launcher, engine)


async def test_a_program_that_cannot_be_run_says_so_in_the_log(launcher: Launcher, folder: Path) -> None:
    engine = await launcher.start(an_engine(folder, launcher), ["/no/such/program"], {})
    assert await launcher.exited(engine) == 127
    assert "cannot run /no/such/program: No such file" in log_text(engine)
    await launcher.release(engine)


async def test_a_log_that_cannot_be_written_is_a_launch_error(launcher: Launcher, folder: Path) -> None:
    with pytest.raises(LaunchError, match="cannot start"):
        await launcher.start(an_engine(folder / "missing", launcher), [PYTHON, "-c", SLEEPS], {})
    assert await launcher.survey() == []


async def test_a_cancelled_start_leaves_nothing(launcher: Launcher, folder: Path) -> None:
    starting = asyncio.ensure_future(launcher.start(an_engine(folder, launcher), [PYTHON, "-c", SLEEPS], {}))
    await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert await launcher.survey() == []
