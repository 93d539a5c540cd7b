"""What is the systemd launcher's alone: another user, a sandbox, and a systemd that remembers."""

import asyncio
import contextlib
from pathlib import Path

import pytest
from fakes.launched import (
    FORKS,
    PYTHON,
    SLEEPS,
    STATE,
    a_launcher,
    an_engine,
    ended_whole,
    log_text,
    started,
    until_log,
)
from studio_agent.launch import Launcher, LaunchError, SystemdLauncher
from studio_agent.launch.engine_spec import SPECS
from studio_agent.launch.owner import replica_of
from studio_agent.supervise.stack_dump import NOT_ALLOWED, StackDump, dump_stacks

# Each line: what was tried, and how it went.
TRIES = f"""
import os, pathlib
def attempt(name, action):
    try:
        action()
        print(name, 'allowed', flush=True)
    except OSError as error:
        print(name, error.strerror, flush=True)
state = pathlib.Path('{STATE}')
attempt('list state', lambda: list(state.iterdir()))
attempt('read secret', (state / 'secret').read_bytes)
attempt('list specs', lambda: list(pathlib.Path('{SPECS}').iterdir()))
attempt('write program', lambda: pathlib.Path('/opt/vllm-studio/evil').write_text(''))
attempt('write cache', lambda: (state / 'cache/made-by-an-engine').write_text(''))
attempt('kill init', lambda: os.kill(1, 9))
attempt('become root', lambda: os.setuid(0))
print('up', flush=True)
"""


@pytest.fixture
def of_systemd(launcher: Launcher) -> SystemdLauncher:
    assert isinstance(launcher, SystemdLauncher)
    return launcher


async def test_the_engine_is_another_user_and_sees_what_it_was_given(of_systemd: SystemdLauncher, folder: Path) -> None:
    secret = STATE / "secret"
    await asyncio.to_thread(secret.write_text, "the agent's")
    await asyncio.to_thread(secret.chmod, 0o600)
    engine = await started(of_systemd, folder, TRIES)
    tried = dict(line.rsplit(" ", 1) if "allowed" in line else (line, "") for line in log_text(engine).splitlines())
    assert [name for name, how in tried.items() if how == "allowed"] == ["write cache"], log_text(engine)
    await of_systemd.exited(engine)
    await of_systemd.release(engine)


async def test_secrets_are_in_no_argument_list_and_gone_with_the_engine(
    of_systemd: SystemdLauncher, folder: Path
) -> None:
    described = an_engine(folder, of_systemd)
    env = {"KEY": "sentinel-5f1e"}
    engine = await of_systemd.start(described, [PYTHON, "-c", SLEEPS], env)
    await until_log(engine, "up")
    spec = SPECS / f"{engine.token}.json"
    assert spec.stat().st_mode & 0o777 == 0o640
    lines = await asyncio.to_thread(_argument_lists)
    assert any(b"time.sleep(600)" in line for line in lines), "the engine's is among them"
    assert not any(b"sentinel-5f1e" in line for line in lines)
    await ended_whole(of_systemd, engine)
    assert not spec.exists()


async def test_a_spec_whose_engine_never_began_goes_with_its_keys(of_systemd: SystemdLauncher, folder: Path) -> None:
    """An agent that is killed between spec and start leaves one."""
    running = await started(of_systemd, folder, SLEEPS)
    left = SPECS / "demo-2.1.0a1b2c3d4e5f.json"
    left.write_text("{}")
    await a_launcher("systemd").survey()
    assert list(SPECS.glob("*")) == [SPECS / f"{running.token}.json"]
    await ended_whole(of_systemd, running)


async def test_a_process_is_known_by_its_replica(of_systemd: SystemdLauncher, folder: Path) -> None:
    """The agent may not read its environment, and yet has to know whose memory on a GPU it is."""
    engine = await started(of_systemd, folder, SLEEPS)
    assert replica_of(engine.pid, "any-host") == engine.token.rsplit(".", 2)[0]
    await of_systemd.kill(engine)
    await of_systemd.exited(engine)
    await of_systemd.release(engine)


async def test_that_its_stacks_may_not_be_read_is_said(of_systemd: SystemdLauncher, folder: Path) -> None:
    engine = await started(of_systemd, folder, SLEEPS)
    members = await of_systemd.members(engine)
    dump = await dump_stacks("/bin/true", [identity.pid for identity in members], folder, engine.token)
    assert dump == StackDump(None, NOT_ALLOWED)
    await of_systemd.kill(engine)
    await of_systemd.exited(engine)
    await of_systemd.release(engine)


async def test_the_next_agent_knows_the_exit_code(of_systemd: SystemdLauncher, folder: Path) -> None:
    engine = await of_systemd.start(an_engine(folder, of_systemd), [PYTHON, "-c", "raise SystemExit(7)"], {})
    await of_systemd.exited(engine)
    following = a_launcher("systemd")
    assert await following.survey({engine.token}) == []
    assert await following.exited(engine) == 7
    assert await following.survey() == []
    assert await following.exited(engine) is None, "an engine that nobody knows is forgotten"


async def test_what_its_leader_leaves_is_ended_by_systemd(of_systemd: SystemdLauncher, folder: Path) -> None:
    engine = await started(of_systemd, folder, FORKS)
    members = await of_systemd.members(engine)
    await of_systemd._signal("SIGKILL", engine, "--kill-who=main")
    assert await of_systemd.exited(engine) == -9
    async with asyncio.timeout(20):
        while any(identity.is_running() for identity in members):
            await asyncio.sleep(0.02)
    await of_systemd.release(engine)


@pytest.mark.parametrize("token", ["../../etc/passwd", "a/b", "-x", "a b", "x" * 300, "%n"])
async def test_a_token_that_is_no_name_of_a_unit_starts_nothing(
    of_systemd: SystemdLauncher, folder: Path, token: str
) -> None:
    with pytest.raises(LaunchError, match="cannot be the instance of a unit"):
        await of_systemd.start(an_engine(folder, of_systemd, token), [PYTHON, "-c", SLEEPS], {})
    assert await of_systemd.survey() == []


def _argument_lists() -> list[bytes]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(path.read_bytes())
    return found
