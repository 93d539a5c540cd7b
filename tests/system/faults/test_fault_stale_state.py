"""Faults 15 and 21: what the ledger names is no more, and something else has its place."""

import asyncio
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from fakes.agent_process import AgentProcess, a_demo_replica
from fakes.coordinator import FakeCoordinator
from studio.v1.replica_pb2 import Replica
from studio_agent.launch.proc_scan import pids
from studio_agent.ledger import FileStore, Ledger
from studio_runtime.process import ProcessIdentity

LAST_PID = Path("/proc/sys/kernel/ns_last_pid")
STRANGER = [sys.executable, "-c", "import time; time.sleep(600)"]


def a_stranger_with_pid(pid: int) -> "subprocess.Popen[bytes] | None":
    """A process of ours that got ``pid``; None when somebody else was quicker every time."""
    for _ in range(200):
        LAST_PID.write_text(str(pid - 1))
        process = subprocess.Popen(STRANGER)
        if process.pid == pid:
            return process
        process.kill()
        process.wait()
    return None


async def test_a_process_that_got_the_pid_of_a_dead_engine_is_left_alone(
    agent: AgentProcess, coordinator: FakeCoordinator
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may choose the next pid")
    coordinator.assign(a_demo_replica())
    first = await coordinator.until_state("demo-1", Replica.STATE_READY)
    await agent.kill()
    os.kill(first.pid, signal.SIGKILL)
    async with asyncio.timeout(30):
        while first.pid in pids():
            await asyncio.sleep(0.01)
    stranger = await asyncio.to_thread(a_stranger_with_pid, first.pid)
    assert stranger is not None
    try:
        coordinator.observed.clear()
        await agent.start()
        await coordinator.until_event("agent.engine_lost")
        again = await coordinator.until_state("demo-1", Replica.STATE_READY)
        assert again.pid != first.pid
        coordinator.assign()
        await coordinator.until_gone("demo-1")
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


async def test_after_a_boot_engines_start_anew_and_that_is_no_restart(
    agent: AgentProcess, coordinator: FakeCoordinator
) -> None:
    coordinator.assign(a_demo_replica(), a_demo_replica("other-1"))
    first = await coordinator.until_state("demo-1", Replica.STATE_READY)
    await coordinator.until_state("other-1", Replica.STATE_READY)
    await agent.kill()
    for pid in agent.engine_processes():
        os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(30):
        while ProcessIdentity.of(first.pid):
            await asyncio.sleep(0.01)
    # What a boot changes: every engine in the ledger is of another one.
    ledger = Ledger.load(FileStore(agent.state / "ledger.json"))
    for record in list(ledger.records.values()):
        assert record.engine is not None
        ledger.put(replace(record, engine=replace(record.engine, boot_id="the boot before")))
    await ledger.flush()

    coordinator.observed.clear()
    await agent.start()
    for name in ("demo-1", "other-1"):
        again = await coordinator.until_state(name, Replica.STATE_READY)
        assert (again.restarts, again.HasField("failure")) == (0, False)
    assert len(agent.engine_processes()) == 2
    assert "replica.failed" not in coordinator.kinds()
