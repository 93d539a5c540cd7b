"""Fault 23: the disk of the agent's state is full."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.agent_process import AgentProcess, a_demo_replica
from fakes.coordinator import FakeCoordinator
from studio.v1.agent_service_pb2 import AssignmentAck, AssignmentNack, ConnectResponse
from studio.v1.replica_pb2 import Replica

KIB = 1024


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("only root may mount a file system of its own")
    folder = tmp_path / "agent"
    folder.mkdir()
    mounted = subprocess.run(["/bin/mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=False)
    if mounted.returncode:
        pytest.skip("this machine lets nobody mount a file system")
    try:
        yield folder
    finally:
        subprocess.run(["/bin/umount", "--lazy", folder], check=True)


def fill(folder: Path) -> Path:
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4 * KIB)
        except OSError:
            return filler


async def test_what_cannot_be_written_down_is_not_begun_and_what_runs_goes_on(
    small_disk: Path, tmp_path: Path, coordinator: FakeCoordinator
) -> None:
    async with AgentProcess(tmp_path, coordinator.address) as agent:
        coordinator.assign(a_demo_replica())
        ready = await coordinator.until_state("demo-1", Replica.STATE_READY)
        ledger = (small_disk / "ledger.json").read_bytes()

        filler = fill(small_disk)
        generation = coordinator.assign(a_demo_replica(), a_demo_replica("other-1"))
        answer = await coordinator.until(
            lambda: (last := coordinator.answers[-1]) and last.generation == generation and last
        )
        assert isinstance(answer, AssignmentNack)
        assert answer.retryable
        assert "No space left" in answer.reason
        assert (small_disk / "ledger.json").read_bytes() == ledger
        heard = len(coordinator.heartbeats)
        await coordinator.until(lambda: len(coordinator.heartbeats) >= heard + 3)
        assert agent.engine_processes() == [ready.pid]

        # It holds what it had, also over a crash.
        await agent.kill()
        filler.unlink()
        coordinator.observed.clear()
        await agent.start()
        await coordinator.until_state("other-1", Replica.STATE_READY)
        assert coordinator.observed["demo-1"].pid == ready.pid


async def test_the_coordinator_may_try_again_when_there_is_room(
    small_disk: Path, tmp_path: Path, coordinator: FakeCoordinator
) -> None:
    async with AgentProcess(tmp_path, coordinator.address):
        await coordinator.until(lambda: coordinator.heartbeats)
        filler = fill(small_disk)
        generation = coordinator.assign(a_demo_replica())
        await coordinator.until(lambda: coordinator.answers and isinstance(coordinator.answers[-1], AssignmentNack))
        filler.unlink()
        coordinator.send(ConnectResponse(assignment=coordinator.assignment))
        await coordinator.until(lambda: coordinator.answers[-1] == AssignmentAck(generation=generation))
        await coordinator.until_state("demo-1", Replica.STATE_READY)


async def test_an_engine_that_dies_meanwhile_is_started_again_when_there_is_room(
    small_disk: Path, tmp_path: Path, coordinator: FakeCoordinator
) -> None:
    async with AgentProcess(tmp_path, coordinator.address) as agent:
        coordinator.assign(a_demo_replica())
        ready = await coordinator.until_state("demo-1", Replica.STATE_READY)
        filler = fill(small_disk)
        os.kill(ready.pid, signal.SIGKILL)
        # The coordinator hears of it although it cannot be written down.
        held = (await coordinator.until_event("replica.start_held")).event
        assert held.reason == "state_not_written"
        assert "No space left" in held.message
        assert agent.engine_processes() == []
        filler.unlink()
        again = await coordinator.until(
            lambda: (
                (now := coordinator.observed["demo-1"]).state == Replica.STATE_READY and now.pid != ready.pid and now
            )
        )
        assert agent.engine_processes() == [again.pid]
