"""An engine that does not become ready is stopped, sooner when it stands still, and later the more it has to read."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fakes.agent_in_process import AgentInProcess, supervising
from fakes.agent_records import an_assignment, assigned
from studio.v1.assignment_pb2 import AssignedReplica
from studio_agent.launch import EngineCgroups, ProcessLauncher
from studio_agent.plan.record import State
from studio_agent.plan.start_limits import STALLED, TIMED_OUT, StartLimits
from studio_agent.probe import Prober

PATIENT = 1_000.0
# Four steps of the demo engine's start, each longer than any test.
FOR_EVER = 4 * PATIENT


@pytest.fixture
async def prober() -> AsyncIterator[Prober]:
    async with Prober() as each:
        yield each


def an_agent(folder: Path, prober: Prober, limits: StartLimits) -> AgentInProcess:
    launcher = ProcessLauncher(os.urandom(8).hex(), EngineCgroups(None))
    return AgentInProcess(folder, prober, launcher, start=limits)


def a_replica(load_seconds: float) -> AssignedReplica:
    replica = assigned()
    replica.recipe.args.demo.load_seconds = load_seconds
    return replica


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (StartLimits(no_progress_seconds=1.0, total_seconds=PATIENT), STALLED),
        (StartLimits(no_progress_seconds=PATIENT, total_seconds=1.0), TIMED_OUT),
    ],
)
async def test_it_is_stopped_with_the_limit_as_its_cause(
    tmp_path: Path, prober: Prober, limits: StartLimits, reason: str
) -> None:
    async with supervising(an_agent(tmp_path, prober, limits)) as agent:
        await agent.supervisor.offer(an_assignment(a_replica(FOR_EVER)))
        failed = await agent.until_state("demo-1", State.STATE_FAILED)
        assert failed.failure is not None
        assert (failed.failure.reason, failed.failure.retryable) == (reason, True)
        await agent.until(lambda: agent.ledger.records["demo-1"].engine is None)


async def test_a_model_of_some_size_gets_the_time_to_be_read(tmp_path: Path, prober: Prober) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "model.safetensors").write_bytes(bytes(1000))
    # By itself not a moment; for each byte a second.
    limits = StartLimits(no_progress_seconds=PATIENT, total_seconds=0.0, slowest_bytes_per_second=1.0)
    replica = a_replica(0.2)
    replica.recipe.model.source = f"path://{model}"
    async with supervising(an_agent(tmp_path / "agent", prober, limits)) as agent:
        await agent.supervisor.offer(an_assignment(replica))
        ready = await agent.until_state("demo-1", State.STATE_READY)
        assert ready.restart_count == 0
