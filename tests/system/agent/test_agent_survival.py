"""The agent dies, and engines do not; the next agent takes them up."""

import asyncio
import json
import os
import signal
from pathlib import Path

import aiohttp
import pytest
from fakes.agent_process import AgentProcess, a_demo_replica
from fakes.coordinator import FakeCoordinator
from studio.v1.replica_pb2 import Replica
from studio_runtime.process import ProcessIdentity


async def test_kill_9_of_the_agent_during_a_stream(agent: AgentProcess, coordinator: FakeCoordinator) -> None:
    coordinator.assign(a_demo_replica(tokens_per_second=30.0))
    ready = await coordinator.until_state("demo-1", Replica.STATE_READY)
    body = {"model": "demo", "prompt": "hello", "max_tokens": 60, "stream": True}
    async with aiohttp.ClientSession() as http, http.post(f"{ready.base_url}/v1/completions", json=body) as response:
        await response.content.readline()
        await agent.kill()
        rest = await response.content.read()
    assert rest.rstrip().endswith(b"data: [DONE]")

    await agent.start()
    await coordinator.until(lambda: len(coordinator.hellos) == 2)
    (seen,) = coordinator.hellos[1].replicas
    assert (seen.pid, seen.state, seen.generation, seen.restarts) == (ready.pid, Replica.STATE_READY, 1, 0)
    assert coordinator.hellos[1].applied_generation == 1
    assert coordinator.hellos[0].host_id == coordinator.hellos[1].host_id
    assert coordinator.hellos[0].agent_instance_id != coordinator.hellos[1].agent_instance_id
    await coordinator.until_event("agent.adopted")

    # It supervises what it adopted.
    os.kill(ready.pid, signal.SIGKILL)
    await coordinator.until_event("replica.failed")
    again = await coordinator.until_state("demo-1", Replica.STATE_READY)
    assert again.pid != ready.pid


async def test_sigterm_ends_the_agent_and_stop_engines_ends_the_engines(
    agent: AgentProcess, coordinator: FakeCoordinator
) -> None:
    coordinator.assign(a_demo_replica(), a_demo_replica("other-1", leave_child=True))
    ready = await coordinator.until_state("demo-1", Replica.STATE_READY)
    await coordinator.until_state("other-1", Replica.STATE_READY)
    code, output = await agent.command("stop-engines", "--state-dir", str(agent.state))
    assert code == 1, "never beside a live agent"
    assert str(agent.pid) in output
    assert await agent.terminate() == 0
    assert ready.pid in agent.engine_processes()
    code, output = await agent.command("stop-engines", "--state-dir", str(agent.state))
    assert code == 0, output
    assert not agent.engine_processes()
    await agent.start()


async def test_stop_engines_in_a_hurry_cuts_every_grace_short(
    agent: AgentProcess, coordinator: FakeCoordinator
) -> None:
    stubborn = a_demo_replica(ignore_sigterm=True)
    stubborn.drain_deadline.FromSeconds(600)
    stubborn.stop_grace.FromSeconds(600)
    coordinator.assign(stubborn)
    await coordinator.until_state("demo-1", Replica.STATE_READY)
    await agent.terminate()
    stopping = await agent.begin("stop-engines", "--state-dir", str(agent.state))
    log = agent.state / "replicas" / "demo-1" / "engine.log"
    async with asyncio.timeout(30):
        while "SIGTERM ignored" not in log.read_text():
            await asyncio.sleep(0.05)
    stopping.send_signal(signal.SIGINT)
    output, _ = await stopping.communicate()
    assert stopping.returncode == 0, output
    assert b"every engine of this host is to stop" in output
    assert not agent.engine_processes()


@pytest.mark.usefixtures("coordinator")
async def test_a_second_agent_on_the_state_folder_is_refused(agent: AgentProcess) -> None:
    code, output = await agent.command(*agent.run_arguments())
    assert code == 1
    assert f"process {agent.pid}" in output
    assert "--state-dir" in output
    assert "Traceback" not in output


async def test_an_address_that_is_taken_is_said_in_a_sentence(
    agent: AgentProcess, coordinator: FakeCoordinator, tmp_path: Path
) -> None:
    folders = ["--state-dir", str(tmp_path / "other"), "--engines-dir", str(tmp_path / "engines")]
    taken = ["--coordinator", coordinator.address, "--metrics", coordinator.address]
    code, output = await agent.command("run", *folders, *taken)
    assert code == 1
    assert f"metrics cannot be served on {coordinator.address}" in output
    assert "Traceback" not in output


async def test_an_engine_that_died_while_no_agent_watched_has_failed(
    agent: AgentProcess, coordinator: FakeCoordinator
) -> None:
    coordinator.assign(a_demo_replica())
    ready = await coordinator.until_state("demo-1", Replica.STATE_READY)
    await agent.kill()
    os.kill(ready.pid, signal.SIGKILL)
    await agent.start()
    await coordinator.until_event("replica.failed")
    again = await coordinator.until_state("demo-1", Replica.STATE_READY)
    assert again.restarts == 1


async def test_a_damaged_ledger_is_kept_aside_and_the_engine_found_by_its_marks(
    agent: AgentProcess, coordinator: FakeCoordinator
) -> None:
    coordinator.assign(a_demo_replica())
    ready = await coordinator.until_state("demo-1", Replica.STATE_READY)
    await agent.kill()
    ledger = agent.state / "ledger.json"
    ledger.write_bytes(ledger.read_bytes()[:-40])
    await agent.start()
    event = await coordinator.until_event("agent.ledger_damaged")
    assert "ledger.json.damaged" in event.event.message
    assert list(agent.state.glob("ledger.json.damaged-*"))
    again = await coordinator.until(lambda: len(coordinator.hellos) == 2 and coordinator.hellos[1].replicas[0])
    assert (again.pid, again.generation) == (ready.pid, 1)
    await coordinator.until_state("demo-1", Replica.STATE_READY)
    assert agent.engine_processes() == [ready.pid]


async def test_an_engine_that_nothing_is_known_of_is_kept_until_the_coordinator_answers(
    agent: AgentProcess, coordinator: FakeCoordinator
) -> None:
    coordinator.assign(a_demo_replica())
    ready = await coordinator.until_state("demo-1", Replica.STATE_READY)
    await agent.kill()
    (agent.state / "ledger.json").write_bytes(b"")
    (agent.state / "replicas" / "demo-1" / "launch.json").unlink()
    known, coordinator.assignment = coordinator.assignment, None
    await agent.start()
    await coordinator.until(lambda: len(coordinator.hellos) == 2 and len(coordinator.heartbeats) > 2)
    assert agent.engine_processes() == [ready.pid]

    assert known is not None
    coordinator.assign(*known.replicas)
    again = await coordinator.until_replica("demo-1", lambda r: r.state == Replica.STATE_READY and r.generation == 1)
    assert agent.engine_processes() == [again.pid]
    assert again.pid != ready.pid
    assert ProcessIdentity.of(ready.pid) is None


async def test_an_engine_started_but_not_written_down_is_found_and_not_started_twice(
    agent: AgentProcess, coordinator: FakeCoordinator
) -> None:
    coordinator.assign(a_demo_replica())
    ready = await coordinator.until_state("demo-1", Replica.STATE_READY)
    await agent.kill()
    # As it is after the intent was written and before the identity was: only the note knows the start.
    note = json.loads((agent.state / "replicas" / "demo-1" / "launch.json").read_text())
    assert note["engine"]["pid"] == 0
    (agent.state / "ledger.json").unlink()
    await agent.start()
    again = await coordinator.until_state("demo-1", Replica.STATE_READY)
    assert again.pid == ready.pid
    assert agent.engine_processes() == [ready.pid]


async def test_the_coordinator_goes_and_comes_back(agent: AgentProcess, coordinator: FakeCoordinator) -> None:
    coordinator.assign(a_demo_replica())
    ready = await coordinator.until_state("demo-1", Replica.STATE_READY)
    await coordinator.stop()
    os.kill(ready.pid, signal.SIGKILL)
    # Supervision goes on without a coordinator.
    async with asyncio.timeout(30):
        while set(agent.engine_processes()) <= {ready.pid}:
            await asyncio.sleep(0.05)
    await coordinator.start()
    await coordinator.until(lambda: len(coordinator.hellos) == 2)
    await coordinator.until_event("replica.failed")
    again = await coordinator.until_state("demo-1", Replica.STATE_READY)
    assert again.restarts == 1
    sequences = sorted(coordinator.events)
    assert sequences == list(range(1, len(sequences) + 1)), "no event is lost, none is numbered twice"
