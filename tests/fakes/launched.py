"""Engines for tests of launchers: small Python programs, and what is asked of every launcher about them."""

import asyncio
import os
import sys
from pathlib import Path

from studio_agent.launch import EngineCgroups, Launcher, ProcessLauncher, SystemdLauncher
from studio_agent.plan.record import Engine
from studio_runtime.process import boot_id

PYTHON = sys.executable
# Where the agent's unit keeps its state.
STATE = Path("/var/lib/studio-agent")

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


def a_launcher(kind: str) -> Launcher:
    """A new one of that kind, as the next agent would have."""
    host_id = os.urandom(8).hex()
    if kind == "systemd":
        return SystemdLauncher.prepare(host_id, STATE / "cache")
    return ProcessLauncher(host_id, EngineCgroups.prepare(host_id) if kind == "with cgroups" else EngineCgroups(None))


def an_engine(folder: Path, launcher: Launcher, name: str = "") -> Engine:
    """An engine that is described and not started; each has a token of its own."""
    token = name or f"demo-1.1.{os.urandom(6).hex()}"
    log = folder / "engine.log"
    return Engine(token, port=0, boot_id=boot_id(), log_path=str(log), cgroup=launcher.cgroup_for(token))


async def started(launcher: Launcher, folder: Path, code: str) -> Engine:
    engine = await launcher.start(an_engine(folder, launcher), [PYTHON, "-c", code], {"PATH": "/usr/bin:/bin"})
    await until_log(engine, "up")
    return engine


def log_text(engine: Engine) -> str:
    return Path(engine.log_path).read_text()


async def until_log(engine: Engine, text: str) -> None:
    async with asyncio.timeout(20):
        while text not in log_text(engine):
            await asyncio.sleep(0.02)


def has_cgroup(engine: Engine) -> bool:
    return bool(engine.cgroup) and Path(engine.cgroup).exists()


async def ended_whole(launcher: Launcher, engine: Engine) -> None:
    await launcher.kill(engine)
    async with asyncio.timeout(20):
        while await launcher.members(engine):
            await asyncio.sleep(0.02)
    await launcher.exited(engine)
    await launcher.release(engine)
    assert not has_cgroup(engine)
    assert engine.token not in [found.token for found in await launcher.survey()]
