"""An agent whose ledger cannot be written: nothing is begun that would not be remembered, and it goes on once it can."""

import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fakes.agent_in_process import AgentInProcess, supervising
from fakes.agent_records import an_assignment, assigned
from fakes.ledger_stores import FailingStore
from studio.v1.event_pb2 import Event
from studio_agent import metrics
from studio_agent.launch import EngineCgroups, ProcessLauncher
from studio_agent.ledger_format import encode
from studio_agent.plan.gpu_blame import Strikes
from studio_agent.plan.record import State
from studio_agent.probe import Prober
from studio_agent.supervise.intent import NOT_WRITTEN


@pytest.fixture
async def prober() -> AsyncIterator[Prober]:
    async with Prober() as each:
        yield each


def an_agent(folder: Path, prober: Prober, store: FailingStore) -> AgentInProcess:
    return AgentInProcess(folder, prober, ProcessLauncher(os.urandom(8).hex(), EngineCgroups(None)), store=store)


async def test_an_assignment_that_cannot_be_kept_starts_nothing(tmp_path: Path, prober: Prober) -> None:
    store = FailingStore()
    async with supervising(an_agent(tmp_path, prober, store)) as agent:
        with pytest.raises(OSError, match="No space left"):
            await agent.supervisor.offer(an_assignment(assigned()))
        passes = agent.supervisor.pulse.value.passes
        await agent.until(lambda: agent.supervisor.pulse.value.passes >= passes + 2)
        assert not agent.ledger.records
        assert await agent.equipment.launcher.survey() == []

        store.repair()
        await agent.supervisor.offer(an_assignment(assigned()))
        await agent.until_state("demo-1", State.STATE_READY)
        assert len(await agent.equipment.launcher.survey()) == 1


async def test_a_start_that_cannot_be_written_down_is_held_and_says_so(tmp_path: Path, prober: Prober) -> None:
    store = FailingStore(encode(an_assignment(assigned()), 1, [], Strikes()))
    kept = store.content
    async with supervising(an_agent(tmp_path, prober, store)) as agent:
        said = await agent.until_event("replica.start_held")
        assert (said.reason, said.severity, said.replica) == (NOT_WRITTEN, Event.SEVERITY_ERROR, "demo-1")
        assert "No space left on device" in said.message
        assert str(tmp_path) in said.attributes["hint"]
        # It is tried again, and nothing was started meanwhile; the operator sees why, in the record and in the metrics.
        refused = store.refused
        await agent.until(lambda: store.refused >= refused + 3)
        held = agent.ledger.records["demo-1"]
        assert (held.state, held.failure, held.restart_count) == (State.STATE_PREPARING, None, 0)
        assert held.reason.startswith("held: its start cannot be written down")
        assert await agent.equipment.launcher.survey() == []
        await agent.until(lambda: metrics.LEDGER_WRITE_FAILED.collect()[0].samples[0].value == 1)
        assert store.content == kept

        assert held.engine is not None
        with socket.socket() as taken:
            # Somebody takes the port that was chosen before the hold.
            taken.bind(("127.0.0.1", held.engine.port))
            taken.listen()
            store.repair()
            ready = await agent.until_state("demo-1", State.STATE_READY)
        assert ready.engine is not None
        assert ready.engine.port != held.engine.port
        assert ready.restart_count == 0
        await agent.until(lambda: metrics.LEDGER_WRITE_FAILED.collect()[0].samples[0].value == 0)
        events = [each.event.kind for each in agent.events.after(0, 100)]
        assert events.count("replica.start_held") == 1
        assert "replica.failed" not in events


async def test_a_held_start_can_be_taken_back(tmp_path: Path, prober: Prober) -> None:
    store = FailingStore(encode(an_assignment(assigned()), 1, [], Strikes()))
    async with supervising(an_agent(tmp_path, prober, store)) as agent:
        await agent.until_event("replica.start_held")
        with pytest.raises(OSError, match="No space left"):
            await agent.supervisor.offer(an_assignment(generation=2, confirmed=True))
        store.repair()
        await agent.supervisor.offer(an_assignment(generation=2, confirmed=True))
        await agent.until(lambda: "demo-1" not in agent.ledger.records)
        assert await agent.equipment.launcher.survey() == []


async def test_an_engine_whose_stop_cannot_be_kept_goes_on(tmp_path: Path, prober: Prober) -> None:
    store = FailingStore(broken=False)
    async with supervising(an_agent(tmp_path, prober, store)) as agent:
        await agent.supervisor.offer(an_assignment(assigned()))
        ready = await agent.until_state("demo-1", State.STATE_READY)
        assert ready.engine is not None
        await agent.until(lambda: not agent.ledger.dirty)

        store.break_down()
        with pytest.raises(OSError, match="No space left"):
            await agent.supervisor.offer(an_assignment(generation=2, confirmed=True))
        passes = agent.supervisor.pulse.value.passes
        await agent.until(lambda: agent.supervisor.pulse.value.passes >= passes + 2)
        assert agent.ledger.records["demo-1"].state == State.STATE_READY
        assert agent.equipment.launcher.is_running(ready.engine)

        store.repair()
        await agent.supervisor.offer(an_assignment(generation=2, confirmed=True))
        await agent.until(lambda: "demo-1" not in agent.ledger.records)
        assert not agent.equipment.launcher.is_running(ready.engine)
