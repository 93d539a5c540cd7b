"""A fleet from nothing: booted hosts that Ansible provisions over SSH, which then serve, lose hosts, are upgraded and taken down.

The tests are one story and run in the order in which they stand; each leaves the fleet as the next one finds it.
"""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fleet import releases
from fleet.engine_units import EngineUnit, engine_units
from fleet.hosts import Host
from fleet.load import Load
from fleet.network import Network
from fleet.provisioning import CONTROLLER, GPU_HOSTS, GROUPS, Fleet, booted_fleet, eventually

MANIFEST = """\
kind: Recipe
name: talk
engine: {name: demo}
args: {demo: {tokens_per_second: 40}}
resources: {gpu: {count: 1}}
---
kind: Deployment
name: talk
recipe: talk
replicas: {min: 2, max: 2}
placement: {spread: host}
"""
# A stream of 15 s, as the gateway's workers are replaced.
LONG_TOKENS = 600
LOST_AFTER_SECONDS = 45
# What docs/security.md says that hosts answer on: to anybody who reaches them, and an engine to gateways alone.
CONTROLLER_PORTS = {22, 4000, 7070, 7072}
GPU_HOST_PORTS = {22}
SCAN = """
import socket, sys
for port in range(1, 65536):
    with socket.socket() as sock:
        sock.settimeout(1)
        if sock.connect_ex((sys.argv[1], port)) == 0:
            print(port)
"""
HEALTH = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=5).status)"
NEXT, BAD = "0.1.1", "0.1.2"
CONVERSATION = "agent/studio_agent/session/conversation.py"
TAKES = "                    await self._take_assignment(welcome.assignment, outbox)\n"
REFUSES = '                outbox.answer(AssignmentNack(generation=1, reason="nothing is good enough"))\n'


def with_agents_that_refuse(source: Path) -> None:
    """Change the sources of a release: whatever its agents are assigned, they refuse it."""
    text = (source / CONVERSATION).read_text()
    assert text.count(TAKES) == 1
    (source / CONVERSATION).write_text(text.replace(TAKES, TAKES + REFUSES))


@pytest.fixture(scope="module")
def archives(release: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The checkout's release, the one after it with a newer schema, and one whose agents refuse everything; by version."""
    later = {NEXT: releases.with_next_schema, BAD: with_agents_that_refuse}
    made = {version: releases.archive(tmp_path_factory.mktemp(version), version, later[version]) for version in later}
    return {releases.version(): release, **made}


@pytest.fixture(scope="module")
def fleet(host_disks: Path, network: Network, archives: dict[str, Path]) -> Iterator[Fleet]:
    """Booted hosts with nothing on them but sshd."""
    variables = {
        "release_archive": str(archives[releases.version()]),
        "coordinator_heartbeat_seconds": 1,
        "coordinator_lost_after_seconds": LOST_AFTER_SECONDS,
        "coordinator_leader_grace_seconds": 10,
        "agent_settle_seconds": 2,
        "upgrade_waves": [1, "100%"],
    }
    with booted_fleet(host_disks / "fleet", network, GROUPS, variables) as fleet:
        yield fleet


def ready(rows: list[dict[str, Any]]) -> dict[str, str]:
    """Replicas that serve, and where."""
    return {row["id"]: row["host_name"] for row in rows if row["state"] == "READY"}


def connected(rows: list[dict[str, Any]]) -> set[str]:
    return {row["name"] for row in rows if row["state"] == "CONNECTED"}


def units(fleet: Fleet) -> dict[str, list[EngineUnit]]:
    """Engines by host."""
    return {host.name: engine_units(host) for host in fleet.gpu_hosts}


@pytest.fixture(scope="module")
def key(fleet: Fleet) -> str:
    """An application's key; made once the fleet is there."""
    return fleet.studio("keys", "create", "application").ok()


def load(fleet: Fleet, key: str, long_tokens: int = 0) -> Load:
    return Load(fleet.controller.address, 4000, key, "talk", long_tokens)


async def test_a_check_of_empty_hosts_says_what_would_change_and_changes_nothing(fleet: Fleet) -> None:
    played = (await asyncio.to_thread(fleet.play, "site", "--check")).ok()
    assert all(played.changed.values()), played.changed
    assert all(host.call("test", "-e", "/opt/vllm-studio").code == 1 for host in fleet.hosts.values())


async def test_from_nothing(fleet: Fleet) -> None:
    played = (await asyncio.to_thread(fleet.play, "site", "-v")).ok()
    await fleet.until(("hosts",), lambda rows: connected(rows) == set(GPU_HOSTS))
    for secret in ("vsj_", "vso_"):
        assert secret not in played.output, "tokens are never shown"
    doctor = fleet["gpu1"].call("systemctl", "is-active", "studio-agent.service")
    assert doctor.ok() == "active"


@pytest.mark.parametrize("options", [(), ("--check",)], ids=["a second run", "a check"])
async def test_nothing_is_left_to_change(fleet: Fleet, options: tuple[str, ...]) -> None:
    played = (await asyncio.to_thread(fleet.play, "site", *options)).ok()
    assert played.changed == dict.fromkeys(fleet.hosts, 0), played.output


async def test_a_model_serves_on_two_hosts(fleet: Fleet, key: str) -> None:
    fleet.controller.write("/root/talk.yaml", MANIFEST)
    fleet.studio("apply", "-f", "/root/talk.yaml", "--wait", "--timeout", "90s").ok()
    replicas = await fleet.until(("ps",), lambda rows: len(ready(rows)) == 2)
    assert len(set(ready(replicas).values())) == 2
    assert await asyncio.to_thread(load(fleet, key).ask) == ""
    assert await asyncio.to_thread(lambda: load(fleet, key).ask(stream=True)) == ""


@pytest.mark.parametrize(
    ("host", "unit"),
    [(CONTROLLER, "studio-coordinator"), (CONTROLLER, "studio-gateway"), ("gpu1", "studio-agent")],
)
def test_a_role_feeds_its_watchdog_and_was_not_started_again(fleet: Fleet, host: str, unit: str) -> None:
    properties = ("WatchdogTimestampMonotonic", "ActiveEnterTimestampMonotonic", "NRestarts")
    shown = fleet[host].call("systemctl", "show", f"--property={','.join(properties)}", unit).ok()
    values = {name: int(value) for name, value in (line.split("=") for line in shown.splitlines())}
    assert values["WatchdogTimestampMonotonic"] > values["ActiveEnterTimestampMonotonic"]
    assert values["NRestarts"] == 0


def test_only_documented_ports_answer(fleet: Fleet) -> None:
    serving = next(iter(ready(fleet.listed("ps")).values()))
    other = next(name for name in GPU_HOSTS if name != serving)

    def answering(seen_from: str, host: str) -> set[int]:
        ran = fleet[seen_from].call("python3", "-c", SCAN, fleet[host].address, timeout=180)
        return {int(port) for port in ran.ok().split()}

    assert answering(other, serving) == GPU_HOST_PORTS, "an engine answers gateways and its agent, and nobody else"
    (port,) = answering(CONTROLLER, serving) - GPU_HOST_PORTS
    assert 20_000 <= port <= 29_999
    assert answering(other, CONTROLLER) == CONTROLLER_PORTS


async def test_a_host_that_is_back_soon_goes_on_with_what_it_had(fleet: Fleet) -> None:
    before = ready(fleet.listed("ps"))
    replica, name = next(iter(before.items()))
    fleet[name].power_off()
    await asyncio.to_thread(fleet[name].boot)
    await fleet.until(("ps",), lambda rows: ready(rows) == before)
    events = fleet.listed("events", "--replica", replica, "--limit", "50")
    assert "replica.lost" not in [event["kind"] for event in events]


async def test_a_host_that_stays_away_is_replaced_and_is_welcome_again(fleet: Fleet, key: str) -> None:
    before = ready(fleet.listed("ps"))
    gone = next(iter(before.values()))
    (spare,) = set(GPU_HOSTS) - set(before.values())
    identity = next(row["id"] for row in fleet.listed("hosts") if row["name"] == gone)
    fleet[gone].power_off()
    others = (set(before.values()) | {spare}) - {gone}
    replaced = await fleet.until(("ps",), lambda rows: set(ready(rows).values()) == others, LOST_AFTER_SECONDS + 60)
    assert await asyncio.to_thread(load(fleet, key).ask) == ""
    await asyncio.to_thread(fleet[gone].boot)
    hosts = await fleet.until(("hosts",), lambda rows: connected(rows) == set(GPU_HOSTS))
    assert identity == next(row["id"] for row in hosts if row["name"] == gone)
    await asyncio.to_thread(_until_no_engine, fleet[gone])
    assert ready(fleet.listed("ps")) == ready(replaced), "what took its place stays"


def _until_no_engine(host: Host) -> None:
    for _ in range(300):
        if not engine_units(host):
            return
        host.call("sleep", "0.2")
    raise AssertionError(f"{host.name} still has {engine_units(host)}")


def sessions(host: Host) -> int:
    """How many times its agent has had a session with a coordinator."""
    journal = host.call("journalctl", "--unit=studio-agent", "--output=cat", "--no-pager").ok()
    return journal.count('"event": "session_open"')


async def test_a_partition_ends_with_one_reconciliation(fleet: Fleet) -> None:
    before = ready(fleet.listed("ps"))
    name = next(iter(before.values()))
    host, engines, first = fleet[name], units(fleet), sessions(fleet[name])
    newest = max(int(event["sequence"]) for event in fleet.listed("events", "--limit", "1"))
    address = next(row["base_url"] for row in fleet.listed("ps") if row["host_name"] == name)
    host.cable.unplug()
    try:
        away = {"name": name, "state": "DISCONNECTED"}
        await fleet.until(("hosts",), lambda rows: any(away.items() <= row.items() for row in rows))
        assert host.call("python3", "-c", HEALTH, f"{address}/health").ok() == "200"
        # The agent has given the connection up as well: what heals is a new one.
        to_coordinator = ("ss", "-Htn", "state", "established", "dport", "=", ":7070")
        await eventually(lambda: host.call(*to_coordinator).ok(), lambda connections: connections == "")
    finally:
        host.cable.plug()
    await fleet.until(("hosts",), lambda rows: name in connected(rows))
    await fleet.until(("ps",), lambda rows: ready(rows) == before)
    assert units(fleet) == engines
    assert sessions(host) == first + 1
    kinds = [event["kind"] for event in fleet.listed("events", "--after", str(newest), "--host", name)]
    assert kinds.count("host.connected") == 1, kinds
    assert not {"agent.started", "replica.starting", "replica.failed"} & set(kinds), kinds


def agents(fleet: Fleet) -> dict[str, tuple[str, str]]:
    """Of each GPU host, its agent's version, and which start of the unit it is."""
    show = ("systemctl", "show", "--property=InvocationID", "--value", "studio-agent.service")
    return {
        row["name"]: (row["facts"]["agent_version"], fleet[row["name"]].call(*show).ok())
        for row in fleet.listed("hosts")
    }


def gateway(fleet: Fleet) -> tuple[str, int]:
    """Its supervising process, and how many workers serve."""
    show = ("systemctl", "show", "--property=MainPID", "--value", "studio-gateway.service")
    pid = fleet.controller.call(*show).ok()
    return pid, len(fleet.controller.call("pgrep", "--parent", pid).ok().split())


async def test_no_request_notices_an_upgrade_that_moves_everything_away_first(
    fleet: Fleet, archives: dict[str, Path], key: str
) -> None:
    """And the gateway's settings change with it."""
    process, workers = gateway(fleet)
    new = {"release_archive": str(archives[NEXT]), "gateway_workers": workers + 1}
    with load(fleet, key) as requests:
        played = await asyncio.to_thread(fleet.play, "upgrade", **new, upgrade_drain=True, upgrade_waves=[1])
    played.ok()
    assert (requests.failed, requests.ok > 0) == ([], True)
    assert {version for version, _ in agents(fleet).values()} == {NEXT}
    status = fleet.shown("status")
    assert (status["version"], status["schema_revision"]) == (NEXT, releases.next_schema())
    assert not [row["name"] for row in fleet.listed("hosts") if row.get("cordoned")]
    await eventually(lambda: gateway(fleet), lambda now: now == (process, workers + 1))


async def test_an_upgrade_stops_at_the_first_host_that_refuses_its_assignment(
    fleet: Fleet, archives: dict[str, Path], key: str
) -> None:
    before, engines, (first, *others) = agents(fleet), units(fleet), GPU_HOSTS
    with load(fleet, key) as requests:
        played = await asyncio.to_thread(fleet.play, "upgrade", release_archive=str(archives[BAD]))
    assert played.code != 0
    for said in (
        f"{first} did not take {BAD} well, and no further host is upgraded",
        "nothing is good enough",
        "To go back, run this playbook with the archive of the release before",
    ):
        assert said in played.output, played.output[-4000:]
    after = agents(fleet)
    assert after[first][0] == BAD
    assert [after[name] for name in others] == [before[name] for name in others]
    assert units(fleet) == engines
    assert requests.failed == []
    # The next play looks at it again, with whichever release.
    assert fleet[first].call("test", "-e", "/etc/vllm-studio/agent.release").code == 1


async def test_no_request_notices_going_back(fleet: Fleet, archives: dict[str, Path], key: str) -> None:
    engines, version = units(fleet), releases.version()
    with load(fleet, key, LONG_TOKENS) as requests:
        played = await asyncio.to_thread(fleet.play, "upgrade", release_archive=str(archives[version]))
    played.ok()
    assert (requests.failed, requests.ok > 0, requests.ok_long > 0) == ([], True, True)
    assert units(fleet) == engines, "engines are those that ran before"
    assert {running for running, _ in agents(fleet).values()} == {version}
    status = fleet.shown("status")
    assert (status["version"], status["schema_revision"]) == (version, releases.next_schema()), "the newer schema stays"


async def test_draining_a_host_moves_what_it_serves(fleet: Fleet, key: str) -> None:
    before = ready(fleet.listed("ps"))
    name = next(iter(before.values()))
    with load(fleet, key) as requests:
        (await asyncio.to_thread(fleet.play, "drain", "--limit", name)).ok()
    assert requests.failed == []
    assert name not in ready(fleet.listed("ps")).values()
    assert engine_units(fleet[name]) == []
    (await asyncio.to_thread(fleet.play, "drain", "--limit", name, drain_undo=True)).ok()
    assert not next(row for row in fleet.listed("hosts") if row["name"] == name).get("cordoned")


async def test_hosts_are_removed_only_when_they_are_named_and_it_is_meant(fleet: Fleet) -> None:
    refused = await asyncio.to_thread(fleet.play, "remove", "--limit", "gpu3")
    assert refused.code != 0
    assert "remove_confirmed" in refused.output
    (await asyncio.to_thread(fleet.play, "remove", "--limit", "gpu3", remove_confirmed=True, remove_data=True)).ok()
    assert "gpu3" not in {row["name"] for row in fleet.listed("hosts")}
    left = ("/opt/vllm-studio", "/etc/vllm-studio", "/var/lib/studio-agent", "/etc/systemd/system/studio-agent.service")
    assert all(fleet["gpu3"].call("test", "-e", path).code == 1 for path in left)
    await fleet.until(("ps",), lambda rows: len(ready(rows)) == 2)
