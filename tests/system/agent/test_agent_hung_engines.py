"""Engines that hang, engines that only work hard, and what is kept of a hung one."""

import asyncio
import os
import signal
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from fakes.agent_in_process import AgentInProcess, supervising
from fakes.agent_process import a_demo_replica
from fakes.agent_records import an_assignment
from studio_agent.launch import EngineCgroups, ProcessLauncher
from studio_agent.plan.health import HealthLimits
from studio_agent.plan.record import ReplicaRecord, State
from studio_agent.probe import Prober
from studio_agent.supervise.observation import observe

QUICK = HealthLimits(
    hang_seconds=0.6,
    quiet_seconds=0.6,
    silent_seconds=0.5,
    canary_seconds=0.4,
    look_seconds=0.05,
    health_seconds=0.1,
    answer_seconds=0.3,
)
# Stands where py-spy would, and says what it was asked.
READER = '#!/bin/sh\necho "stack of $*"\n'


@asynccontextmanager
async def an_agent(folder: Path, health: HealthLimits = QUICK) -> AsyncIterator[AgentInProcess]:
    async with Prober() as prober:
        launcher = ProcessLauncher(os.urandom(8).hex(), EngineCgroups(None))
        async with supervising(AgentInProcess(folder, prober, launcher, health=health)) as agent:
            yield agent


async def serving(agent: AgentInProcess, **demo: object) -> ReplicaRecord:
    await agent.supervisor.offer(an_assignment(a_demo_replica(**demo)))
    return await agent.until_state("demo-1", State.STATE_READY)


@asynccontextmanager
async def asking(record: ReplicaRecord, **body: object) -> AsyncIterator[asyncio.Task[bytes]]:
    """A stream that runs during the block."""
    url = observe(record, "127.0.0.1").base_url + "/v1/completions"
    asked = {"model": "demo", "prompt": "x", "max_tokens": 50, "stream": True, **body}

    async def ask() -> bytes:
        try:
            async with aiohttp.ClientSession() as http, http.post(url, json=asked) as response:
                return await response.read()
        except aiohttp.ClientError as error:
            return repr(error).encode()

    task = asyncio.ensure_future(ask())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def content_and_mode(path: Path) -> tuple[str, int]:
    return path.read_text(), stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def stack_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bin" / "py-spy"
    program.parent.mkdir()
    program.write_text(READER)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")


@pytest.mark.usefixtures("stack_reader")
async def test_an_engine_that_hangs_behind_a_healthy_answer_is_replaced_and_its_stacks_are_kept(tmp_path: Path) -> None:
    async with an_agent(tmp_path) as agent:
        first = await serving(agent, health_lie="ok", hang_after_tokens=3)
        assert first.engine is not None
        async with asking(first):
            suspected = await agent.until(lambda: observe(agent.ledger.records["demo-1"], "").state_reason)
            assert suspected
            await agent.until(lambda: agent.ledger.records["demo-1"].suspicion)
            assert observe(agent.ledger.records["demo-1"], "").state_reason.startswith("suspect: nothing moved for ")
            failed = await agent.until_event("replica.failed")
        assert failed.reason == "hung"
        assert "completions of one token failed" in failed.message
        kept = await agent.until_event("replica.stacks_kept")
        path = Path(kept.attributes["path"])
        assert path.parent == agent.equipment.settings.state.replica("demo-1")
        assert content_and_mode(path) == (
            f"== process {first.engine.pid}\nstack of dump --pid {first.engine.pid}\n",
            0o600,
        )
        await agent.until_event("replica.restarting")
        second = await agent.until_state("demo-1", State.STATE_READY)
        assert second.restart_count == 1
        assert second.engine is not None
        assert second.engine.pid != first.engine.pid


async def test_one_that_nobody_may_look_into_writes_its_stacks_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "bin" / "py-spy"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "not allowed" >&2\nexit 1\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    async with an_agent(tmp_path) as agent:
        record = await serving(agent, health_lie="ok", hang_after_tokens=3)
        async with asking(record):
            missing = await agent.until_event("replica.stacks_missing")
        assert "at the end of its log" in missing.message
        assert "not allowed" in content_and_mode(Path(missing.attributes["path"]))[0]
        log = agent.equipment.settings.state.log("demo-1").read_text()
        assert "Fatal Python error: Aborted" in log
        assert "most recent call first" in log


async def test_a_long_prefill_is_left_alone(tmp_path: Path) -> None:
    """Many times the limit, and a canary waits behind it: but it moves."""
    async with an_agent(tmp_path) as agent:
        record = await serving(agent, prefill_seconds=2.5)
        # Its canaries take as long as any prompt, so they find no answer in their time.
        async with asking(record, prompt="word " * 200, max_tokens=1) as stream:
            assert (await stream).endswith(b"data: [DONE]\n\n")
        assert agent.ledger.records["demo-1"].engine == record.engine
        assert agent.ledger.records["demo-1"].state == State.STATE_READY


async def test_a_frozen_process_is_unresponsive(tmp_path: Path) -> None:
    async with an_agent(tmp_path) as agent:
        record = await serving(agent)
        assert record.engine is not None
        os.kill(record.engine.pid, signal.SIGSTOP)
        failed = await agent.until_event("replica.failed")
        assert failed.reason == "unresponsive"
        again = await agent.until_state("demo-1", State.STATE_READY)
        assert again.restart_count == 1


async def test_an_idle_engine_that_hangs_is_found_without_a_request(tmp_path: Path) -> None:
    async with an_agent(tmp_path) as agent:
        record = await serving(agent, health_lie="ok", hang_after_tokens=3)
        async with asking(record):
            # It hangs, and whoever asked goes away: by its own account it is idle.
            await agent.until(lambda: agent.ledger.records["demo-1"].suspicion)
        failed = await agent.until_event("replica.failed")
        assert failed.reason == "hung"


async def test_an_idle_engine_is_asked_and_stays(tmp_path: Path) -> None:
    async with an_agent(tmp_path) as agent:
        record = await serving(agent)
        assert record.engine is not None
        token = record.engine.token

        def tokens() -> float:
            figures = agent.equipment.readings.latest(token, 0.0, 1.0)
            return figures.generation_tokens_total if figures is not None else 0.0

        # One token was the proof that it is ready; the others are canaries'.
        async with asyncio.timeout(20):
            while tokens() < 3:
                await asyncio.sleep(0.02)
        assert agent.ledger.records["demo-1"] == record
