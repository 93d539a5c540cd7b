"""Installing an engine environment for real: venv and pip, with a wheel made on the spot and no network."""

import asyncio
import fcntl
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from fakes.demo_process import until
from fakes.wheels import make_wheel
from studio.v1.recipe_pb2 import EngineChoice
from studio.v1.replica_pb2 import StartProgress
from studio_agent import program
from studio_agent.environments import installed
from studio_agent.environments.errors import EnvironmentFailedError
from studio_agent.environments.installation import ensure
from studio_agent.environments.pins import InstallPlan, PipRun
from studio_agent.environments.shelf import EngineShelf, runs_from
from studio_runtime.errors import NotFoundError
from studio_runtime.process import ProcessIdentity

PROGRAM = """
from importlib.metadata import version
def main(): print(version("other"))
"""


def a_plan(wheels: Path) -> InstallPlan:
    run = PipRun(("--no-index", "--find-links", str(wheels), "mini-engine==1.0"), 1)
    return InstallPlan("mini", "1.0", "bin/mini", 1024, (run,), alias=("other", "1.0+cpu"))


async def test_it_is_whole_or_not_there(tmp_path: Path):
    engines, wheels = tmp_path / "engines", tmp_path / "wheels"
    plan = a_plan(wheels)
    reported: list[StartProgress] = []
    wheels.mkdir()
    # First the package is not to be had: what is there stays, but does not count as installed.
    with pytest.raises(EnvironmentFailedError, match=r"mini 1\.0 could not be installed") as failed:
        await ensure(plan, engines, reported.append)
    assert failed.value.failure_reason == "package_missing"
    assert installed(engines) == []
    wheels.rmdir()
    make_wheel(wheels, "mini-engine", "1.0", "mini", PROGRAM)
    # Then two ask at once: one installs, both get it.
    programs = await asyncio.gather(*(ensure(plan, engines, reported.append) for _ in range(2)))
    assert set(programs) == {engines / "mini-1.0" / "bin" / "mini"}
    said = await asyncio.to_thread(subprocess.check_output, [programs[0]], text=True)
    assert said == "1.0+cpu\n"
    assert [(one.engine, one.version, one.path) for one in installed(engines)] == [("mini", "1.0", str(programs[0]))]
    details = [one.detail for one in reported]
    assert "installing mini 1.0: 1 of 1 packages collected" in details
    assert "installing mini 1.0: unpacking 1 packages" in details
    assert "waiting for another installation of mini 1.0" in details
    log = (engines / "mini-1.0.log").read_text()
    assert log.count("-m venv") == 2
    # Then it is there.
    reported.clear()
    await ensure(plan, engines, reported.append)
    assert reported == []
    assert (engines / "mini-1.0.log").read_text() == log
    # An environment whose program is gone is not whole, marker or not.
    programs[0].unlink()
    assert installed(engines) == []


async def test_a_wheelhouse_stands_for_the_index_and_removal_gives_the_disk_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    make_wheel(tmp_path / "wheels", "mini-engine", "1.0", "mini", PROGRAM)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/simple")
    plan = replace(a_plan(tmp_path), pip_runs=(PipRun(("mini-engine==1.0",), 1),))
    engines = tmp_path / "engines"
    await ensure(plan, engines, lambda _said: None, tmp_path / "wheels")
    shelf = EngineShelf(engines)
    await shelf.load()
    (environment,) = shelf.installed()
    assert environment.disk_bytes > 1024**2
    assert runs_from(EngineChoice(name="vllm"), environment) is False
    with pytest.raises(NotFoundError):
        shelf.choose("mini", "2.0")
    await shelf.remove(shelf.choose("mini", ""))
    assert shelf.installed() == []
    assert not (engines / "mini-1.0").exists()


async def test_a_full_disk_is_said_before_anything_is_done(tmp_path: Path):
    plan = replace(a_plan(tmp_path), needed_bytes=2**60)
    with pytest.raises(EnvironmentFailedError, match="GiB are free") as refused:
        await ensure(plan, tmp_path / "engines", lambda _said: None)
    assert refused.value.failure_reason == "disk"
    assert not (tmp_path / "engines" / "mini-1.0").exists()


async def test_an_engines_folder_that_cannot_be_written(tmp_path: Path):
    (tmp_path / "engines").touch()
    with pytest.raises(EnvironmentFailedError, match="could not be installed") as refused:
        await ensure(a_plan(tmp_path), tmp_path / "engines", lambda _said: None)
    assert (refused.value.failure_reason, refused.value.retryable) == ("engines_dir", False)


async def test_an_installation_that_breaks_off_may_be_tried_again(tmp_path: Path):
    make_wheel(tmp_path / "wheels", "mini-engine", "1.0", "mini", PROGRAM)
    # Without the other name, the check that the program runs fails.
    plan = replace(a_plan(tmp_path / "wheels"), alias=None)
    with pytest.raises(EnvironmentFailedError, match="No package metadata was found for other") as failed:
        await ensure(plan, tmp_path / "engines", lambda _said: None)
    assert (failed.value.failure_reason, failed.value.retryable) == ("install_failed", True)
    assert installed(tmp_path / "engines") == []


GRANDCHILD = "import subprocess, time; print(subprocess.Popen(['sleep', '60']).pid, flush=True); time.sleep(60)"


async def test_cancelling_ends_a_command_and_what_it_started(tmp_path: Path):
    lines: list[str] = []
    task = asyncio.ensure_future(program.run((sys.executable, "-c", GRANDCHILD), tmp_path / "log", lines.append))
    grandchild = int((await until(lambda: lines))[0])
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: ProcessIdentity.of(grandchild) is None)


HOLDER = """
import asyncio, os, fcntl, sys
from pathlib import Path
from studio_agent import program
lock = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.flock(lock, fcntl.LOCK_EX)
pid = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
asyncio.run(program.run((sys.executable, "-c", pid), Path(sys.argv[2]), keep_open=(lock,)))
"""


async def test_an_installer_holds_the_lock_when_its_agent_is_killed(tmp_path: Path):
    lock, log = tmp_path / "lock", tmp_path / "log"
    agent = await asyncio.to_thread(subprocess.Popen, [sys.executable, "-c", HOLDER, str(lock), str(log)])
    installer = int((await until(lambda: log.read_text().splitlines()[1:] if log.exists() else []))[-1])
    agent.kill()
    agent.wait()
    with lock.open() as file:
        with pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.kill(installer, signal.SIGKILL)
        await until(lambda: ProcessIdentity.of(installer) is None)
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
