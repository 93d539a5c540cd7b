"""What crosses the wire between agent and coordinator: heartbeats, refusals, logs, telemetry."""

import os
import signal
from pathlib import Path

import aiohttp
import pytest
from fakes.agent_process import AgentProcess, a_demo_replica
from fakes.coordinator import FakeCoordinator
from studio.v1.agent_service_pb2 import AssignmentAck, AssignmentNack, Command, ConnectResponse
from studio.v1.assignment_pb2 import Assignment
from studio.v1.replica_pb2 import Replica


async def test_hello_says_what_the_host_is(agent: AgentProcess, coordinator: FakeCoordinator) -> None:
    await coordinator.until(lambda: coordinator.hellos)
    hello = coordinator.hellos[0]
    assert hello.host_id == (agent.state / "host-id").read_text()
    assert hello.host_name
    assert hello.boot_id
    assert hello.facts.cpu_count == os.cpu_count()
    assert hello.facts.memory_bytes > 0
    assert hello.facts.engine_address == "127.0.0.1"
    assert hello.applied_generation == 0


async def test_assignments_are_judged(agent: AgentProcess, coordinator: FakeCoordinator) -> None:
    replicas = [a_demo_replica(f"demo-{n}") for n in (1, 2)]
    coordinator.term = 3
    coordinator.assign(*replicas)
    for n in (1, 2):
        await coordinator.until_state(f"demo-{n}", Replica.STATE_READY)
    assert coordinator.answers == [AssignmentAck(generation=1)]
    running = agent.engine_processes()

    async def refused(assignment: Assignment) -> str:
        count = len(coordinator.answers)
        coordinator.send(ConnectResponse(assignment=assignment))
        await coordinator.until(lambda: len(coordinator.answers) > count)
        answer = coordinator.answers[-1]
        assert isinstance(answer, AssignmentNack)
        assert answer.generation == assignment.generation
        return answer.reason

    assert "term 2 is over" in await refused(Assignment(generation=9, term=2, replicas=replicas))
    assert "other content" in await refused(Assignment(generation=1, term=3, replicas=replicas[:1]))
    assert "would stop 2 of 2" in await refused(Assignment(generation=2, term=3))
    event = await coordinator.until(
        lambda: next((e.event for e in coordinator.events.values() if e.event.reason == "braked"), None)
    )
    assert event.kind == "assignment.refused"
    assert agent.engine_processes() == running

    coordinator.send(ConnectResponse(assignment=Assignment(generation=2, term=3, stops_confirmed=True)))
    await coordinator.until(lambda: coordinator.answers[-1] == AssignmentAck(generation=2))
    await coordinator.until_gone("demo-1")


async def test_a_frozen_agent_goes_on_where_it_was(agent: AgentProcess, coordinator: FakeCoordinator) -> None:
    coordinator.assign(a_demo_replica())
    ready = await coordinator.until_state("demo-1", Replica.STATE_READY)
    os.kill(agent.pid, signal.SIGSTOP)
    try:
        os.kill(ready.pid, signal.SIGKILL)
        coordinator.assign()
    finally:
        os.kill(agent.pid, signal.SIGCONT)
    await coordinator.until_gone("demo-1")
    numbers = [heartbeat.sequence for heartbeat in coordinator.heartbeats]
    assert numbers == sorted(set(numbers))
    assert not agent.engine_processes()


async def test_a_coordinator_that_answers_nothing_is_left_and_dialled_again(tmp_path: Path) -> None:
    async with FakeCoordinator(lease_seconds=0.7) as coordinator, AgentProcess(tmp_path, coordinator.address):
        await coordinator.until(lambda: coordinator.heartbeats)
        coordinator.answers_heartbeats = coordinator.ack_events = False
        await coordinator.until(lambda: len(coordinator.hellos) >= 2)


async def test_logs_are_pulled_and_followed_over_a_restart(agent: AgentProcess, coordinator: FakeCoordinator) -> None:
    coordinator.assign(a_demo_replica())
    ready = await coordinator.until_state("demo-1", Replica.STATE_READY)
    coordinator.pull_log("all", "demo-1")
    await coordinator.until(lambda: "all" in coordinator.log_ends)
    assert coordinator.log_ends["all"] == ""
    written = (agent.state / "replicas" / "demo-1" / "engine.log").read_bytes()
    assert bytes(coordinator.log["all"]) in written
    assert coordinator.log["all"]

    coordinator.pull_log("tail", "demo-1", tail_bytes=10)
    await coordinator.until(lambda: "tail" in coordinator.log_ends)
    assert len(coordinator.log["tail"]) == 10

    coordinator.pull_log("follow", "demo-1", tail_bytes=0, follow=True)
    os.kill(ready.pid, signal.SIGKILL)
    await coordinator.until(lambda: b"startup complete" in coordinator.log.get("follow", b""))
    assert "follow" not in coordinator.log_ends

    for name in ("demo-2", "../../agent", ""):
        coordinator.pull_log(f"no {name}", name)
        await coordinator.until(lambda name=name: coordinator.log_ends.get(f"no {name}"))


@pytest.mark.usefixtures("agent")
async def test_telemetry_carries_host_and_replica_figures(coordinator: FakeCoordinator) -> None:
    coordinator.assign(a_demo_replica(tokens_per_second=50.0))
    ready = await coordinator.until_state("demo-1", Replica.STATE_READY)
    body = {"model": "demo", "prompt": "hello", "max_tokens": 100, "stream": True}
    async with aiohttp.ClientSession() as http, http.post(f"{ready.base_url}/v1/completions", json=body):
        sample = await coordinator.until(
            lambda: next((s for s in coordinator.telemetry if s.replicas["demo-1"].running == 1), None)
        )
        assert sample.session_epoch == 1
        assert sample.host_id == coordinator.hellos[0].host_id
        assert sample.host.memory_used_bytes > 0
        await coordinator.until(lambda: coordinator.telemetry[-1].replicas["demo-1"].generation_tokens_per_second > 0)


@pytest.mark.usefixtures("agent")
async def test_unknown_commands_are_answered(coordinator: FakeCoordinator) -> None:
    await coordinator.until(lambda: coordinator.connected)
    coordinator.send(ConnectResponse(command=Command(command_id="c1")))
    await coordinator.until(lambda: coordinator.results)
    assert (coordinator.results[0].command_id, coordinator.results[0].ok) == ("c1", False)
