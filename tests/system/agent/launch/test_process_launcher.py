"""What is the process launcher's alone: marks instead of a unit, and being a parent."""

import asyncio
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from fakes.launched import FORKS, SLEEPS, ended_whole, started
from studio_agent.launch import EngineCgroups, Launcher, ProcessLauncher
from studio_runtime.process import ProcessIdentity


@pytest.fixture
def of_processes(launcher: Launcher) -> ProcessLauncher:
    assert isinstance(launcher, ProcessLauncher)
    return launcher


async def test_the_log_is_the_agents_alone(of_processes: ProcessLauncher, folder: Path) -> None:
    engine = await started(of_processes, folder, SLEEPS)
    assert (folder / "engine.log").stat().st_mode & 0o777 == 0o600
    await ended_whole(of_processes, engine)


async def test_leftovers_are_found_after_their_leader_died(of_processes: ProcessLauncher, folder: Path) -> None:
    engine = await started(of_processes, folder, FORKS)
    os.kill(engine.pid, signal.SIGKILL)
    assert await of_processes.exited(engine) == -signal.SIGKILL
    assert len(await of_processes.members(engine)) == 3
    (found,) = await of_processes.survey()
    assert found.token == engine.token
    await ended_whole(of_processes, engine)


async def test_engines_of_another_host_folder_are_strangers(of_processes: ProcessLauncher, folder: Path) -> None:
    engine = await started(of_processes, folder, SLEEPS)
    other = ProcessLauncher("another-host", EngineCgroups(None))
    assert await other.survey() == []
    assert await other.members(replace(engine, pid=0, cgroup="")) == []
    await ended_whole(of_processes, engine)


async def test_an_engine_outlives_its_agent_and_the_next_one_knows_it(
    of_processes: ProcessLauncher, folder: Path
) -> None:
    engine = await started(of_processes, folder, SLEEPS)
    child = of_processes._children.pop(ProcessIdentity(engine.pid, engine.start_ticks))
    (found,) = await of_processes.survey()
    assert found.leader == ProcessIdentity(engine.pid, engine.start_ticks)
    waiting = asyncio.ensure_future(of_processes.exited(engine))
    await asyncio.sleep(0)
    assert not waiting.done()
    os.kill(engine.pid, signal.SIGKILL)
    assert await waiting is None, "not our child any more: its end is seen, its code is not"
    child.wait()
    await ended_whole(of_processes, engine)
