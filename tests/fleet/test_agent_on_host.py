"""The agent as a unit of a booted host: it dies in every way there is, and its engines do not."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from fakes.agent_process import a_demo_replica
from fakes.coordinator import FakeCoordinator
from fleet.engine_units import FREEZER, EngineUnit, engine_units, frozen
from fleet.hosts import Host
from fleet.network import Network
from studio.v1.agent_service_pb2 import ReplicaObservation
from studio.v1.assignment_pb2 import AssignedReplica
from studio.v1.replica_pb2 import Replica

AGENT = "studio-agent.service"
DROP_IN = "/etc/systemd/system/studio-agent.service.d/test.conf"
READY = Replica.STATE_READY
# Into the cgroup of process $1, deaf to SIGTERM.
HANGS = """
mount=/sys/fs/cgroup; [ -e $mount/cgroup.procs ] || mount=$mount/unified
(trap '' TERM; exec sleep 300) > /dev/null 2>&1 &
echo $! > "$mount$(sed -n 's/^0:://p' /proc/$1/cgroup)/cgroup.procs"
echo $!
"""
ASK = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1] + '/health', timeout=5).status)"


@pytest.fixture
async def coordinator(network: Network) -> AsyncIterator[FakeCoordinator]:
    async with FakeCoordinator(address=network.gateway) as fake:
        yield fake


@pytest.fixture
async def agent(host: Host, coordinator: FakeCoordinator) -> AsyncIterator[Host]:
    """The host with its agent started; afterwards it has neither agent nor engine."""
    host.write("/etc/vllm-studio/agent.env", f"STUDIO_COORDINATOR={coordinator.address}\n")
    started = await host.run("systemctl", "start", AGENT)
    assert started.code == 0, (await host.run("journalctl", "--no-pager", "--lines=50", "--unit", AGENT)).output
    yield host
    if engine_units(host):
        await until_connected(coordinator)
        coordinator.assign()
        async with asyncio.timeout(60):
            while await asyncio.to_thread(engine_units, host):
                await asyncio.sleep(0.1)
    (await host.run("systemctl", "stop", AGENT)).ok()
    (
        await host.run("sh", "-c", "rm -rf /var/lib/studio-agent/*; systemd-tmpfiles --create vllm-studio-agent.conf")
    ).ok()


async def until_connected(coordinator: FakeCoordinator) -> None:
    await coordinator.until(lambda: coordinator.connected)


async def serving(
    host: Host, coordinator: FakeCoordinator, replica: AssignedReplica | None = None
) -> tuple[ReplicaObservation, EngineUnit]:
    """A replica that is ready, and its unit."""
    coordinator.assign(replica or a_demo_replica())
    ready = await coordinator.until_replica("demo-1", lambda r: r.state == READY or r.gave_up, timeout=60)
    assert ready.state == READY, ready.state_reason
    (unit,) = await asyncio.to_thread(engine_units, host)
    assert unit.main_pid == ready.pid
    return ready, unit


@asynccontextmanager
async def drop_in(host: Host, *lines: str) -> AsyncIterator[None]:
    """The agent's unit says this too while the block runs."""
    file = host.root / DROP_IN.lstrip("/")
    host.write(DROP_IN, "\n".join(("[Service]", *lines, "")))
    (await host.run("systemctl", "daemon-reload")).ok()
    try:
        yield
    finally:
        file.unlink()
        (await host.run("systemctl", "daemon-reload")).ok()


async def main_pid(host: Host) -> int:
    return int((await host.run("systemctl", "show", "--property=MainPID", "--value", AGENT)).ok())


async def assert_unchanged(host: Host, unit: EngineUnit, ready: ReplicaObservation) -> None:
    """The very same engine runs and answers."""
    assert await asyncio.to_thread(engine_units, host) == [unit]
    asked = await host.run("/opt/vllm-studio/current/bin/python", "-c", ASK, ready.base_url)
    assert asked.ok() == "200"


async def adopted(coordinator: FakeCoordinator, hello: int, ready: ReplicaObservation) -> None:
    """The agent of that Hello says that it goes on with the same process."""
    await coordinator.until(lambda: len(coordinator.hellos) > hello, timeout=60)
    (seen,) = coordinator.hellos[hello].replicas
    assert (seen.pid, seen.state, seen.generation, seen.restarts) == (ready.pid, READY, 1, 0)


async def test_kill_9_of_the_agent(agent: Host, coordinator: FakeCoordinator) -> None:
    ready, unit = await serving(agent, coordinator)
    before = await main_pid(agent)
    (await agent.run("kill", "-KILL", str(before))).ok()
    await adopted(coordinator, 1, ready)
    assert await main_pid(agent) != before
    await assert_unchanged(agent, unit, ready)
    # The next agent supervises what it adopted, and may end it.
    (await agent.run("systemctl", "kill", "--signal=SEGV", "--kill-whom=main", unit.name)).ok()
    failed = await coordinator.until_event("replica.failed")
    assert failed.event.attributes["exit_code"] == "-11", failed
    again = await coordinator.until_replica("demo-1", lambda r: r.state == READY and r.pid != ready.pid, timeout=60)
    (now,) = await asyncio.to_thread(engine_units, agent)
    assert (now.main_pid, now.name != unit.name) == (again.pid, True)


async def test_stop_of_the_agent(agent: Host, coordinator: FakeCoordinator) -> None:
    ready, unit = await serving(agent, coordinator)
    (await agent.run("systemctl", "stop", AGENT)).ok()
    await assert_unchanged(agent, unit, ready)
    (await agent.run("systemctl", "start", AGENT)).ok()
    await adopted(coordinator, 1, ready)
    await assert_unchanged(agent, unit, ready)


async def test_what_hangs_in_the_agents_unit_is_not_killed_with_it(agent: Host, coordinator: FakeCoordinator) -> None:
    """As a sampler's child in a call into the driver, which SIGTERM does not reach."""
    await until_connected(coordinator)
    pid = (await agent.run("sh", "-c", HANGS, "sh", str(await main_pid(agent)))).ok().strip()
    try:
        (await agent.run("systemctl", "restart", AGENT)).ok()
        await coordinator.until(lambda: len(coordinator.hellos) == 2, timeout=60)
        (await agent.run("kill", "-0", pid)).ok()
    finally:
        await agent.run("kill", "-KILL", pid)


async def test_how_an_engine_ended_is_known_to_an_agent_that_was_not_there(
    agent: Host, coordinator: FakeCoordinator
) -> None:
    ready, unit = await serving(agent, coordinator)
    (await agent.run("systemctl", "stop", AGENT)).ok()
    (await agent.run("systemctl", "kill", "--signal=SEGV", "--kill-whom=main", unit.name)).ok()
    (await agent.run("systemctl", "start", AGENT)).ok()
    failed = await coordinator.until_event("replica.failed")
    assert failed.event.attributes["exit_code"] == "-11", failed
    await coordinator.until_replica("demo-1", lambda r: r.state == READY and r.pid != ready.pid, timeout=60)


async def test_an_agent_whose_loop_stands_still_is_replaced_by_the_watchdog(
    agent: Host, coordinator: FakeCoordinator
) -> None:
    ready, unit = await serving(agent, coordinator)
    async with drop_in(agent, "WatchdogSec=4", "TimeoutAbortSec=1"):
        (await agent.run("systemctl", "restart", AGENT)).ok()
        await adopted(coordinator, 1, ready)
        before = await main_pid(agent)
        (await agent.run("kill", "-STOP", str(before))).ok()
        await adopted(coordinator, 2, ready)
        assert await main_pid(agent) != before
        await assert_unchanged(agent, unit, ready)


async def test_a_cut_cable(agent: Host, coordinator: FakeCoordinator) -> None:
    ready, unit = await serving(agent, coordinator)
    agent.cable.unplug()
    try:
        (await agent.run("systemctl", "kill", "--signal=KILL", AGENT)).ok()
        await assert_unchanged(agent, unit, ready)
    finally:
        agent.cable.plug()
    await adopted(coordinator, 1, ready)
    await assert_unchanged(agent, unit, ready)


async def test_an_engine_that_does_not_die_is_said_to_be_unkillable(agent: Host, coordinator: FakeCoordinator) -> None:
    assert FREEZER.is_dir(), "the version 1 freezer is needed: what version 2 freezes can still be killed"
    replica = a_demo_replica()
    replica.stop_grace.FromMilliseconds(100)
    ready, unit = await serving(agent, coordinator, replica)
    with frozen(agent, unit.name):
        coordinator.assign()
        said = await coordinator.until_event("replica.unkillable", timeout=60)
        assert str(ready.pid) in said.event.message
        stuck = coordinator.observed["demo-1"]
        assert stuck.state == Replica.STATE_STOPPING
        assert [unit.name for unit in await asyncio.to_thread(engine_units, agent)] == [unit.name]
    await coordinator.until_gone("demo-1", timeout=60)


async def test_a_power_cut(agent: Host, coordinator: FakeCoordinator) -> None:
    # A container's boot id is a mount over the kernel's, and these parts of the sandbox put the kernel's back.
    async with drop_in(agent, "ProtectKernelTunables=no", "ProtectControlGroups=no"):
        (await agent.run("systemctl", "restart", AGENT)).ok()
        await coordinator.until(lambda: len(coordinator.hellos) == 2, timeout=60)
        ready, unit = await serving(agent, coordinator)
        (await agent.run("systemctl", "enable", AGENT)).ok()
        agent.power_off()
        await asyncio.to_thread(agent.boot)
        await coordinator.until(lambda: len(coordinator.hellos) == 3, timeout=60)
        (await agent.run("systemctl", "disable", AGENT)).ok()
    before, after = coordinator.hellos[1:]
    assert after.host_id == before.host_id
    assert after.boot_id != before.boot_id
    again = await coordinator.until_replica("demo-1", lambda r: r.state == READY, timeout=60)
    assert again.restarts == 0, "a boot is no failure of the engine"
    (now,) = await asyncio.to_thread(engine_units, agent)
    assert now.name != unit.name
    assert ready.generation == again.generation
