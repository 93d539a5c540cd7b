"""A fleet from nothing: booted hosts that Ansible provisions over SSH, which then serve, lose hosts, are upgraded and taken down.

The tests are one story and run in the order in which they stand; each leaves the fleet as the next one finds it.
"""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fleet import releases, rootfs
from fleet.engine_units import EngineUnit, engine_units
from fleet.hosts import Host
from fleet.load import Load
from fleet.network import Network
from fleet.provisioning import CONTROLLER, GPU_HOSTS, Fleet

MANIFEST = """\
kind: Recipe
name: talk
engine: {name: demo}
resources: {gpu: {count: 1}}
---
kind: Deployment
name: talk
recipe: talk
replicas: {min: 2, max: 2}
placement: {spread: host}
"""
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
NEXT = "0.1.1"


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory, host_disks: Path) -> tuple[Path, Path]:
    """The checkout's release, and the one after it."""
    assert host_disks.is_dir()
    return releases.archive(tmp_path_factory.mktemp("release")), releases.archive(tmp_path_factory.mktemp("next"), NEXT)


@pytest.fixture(scope="module")
def fleet(host_disks: Path, network: Network, archives: tuple[Path, Path]) -> Iterator[Fleet]:
    """Booted hosts with nothing on them but sshd."""
    folder = host_disks / "fleet"
    folder.mkdir()
    names = (CONTROLLER, *GPU_HOSTS)
    hosts = {name: Host(name, rootfs.prepared(), host_disks / name, network.new_cable()) for name in names}
    variables = {
        "release_archive": str(archives[0]),
        "coordinator_heartbeat_seconds": 1,
        "coordinator_lost_after_seconds": LOST_AFTER_SECONDS,
        "coordinator_leader_grace_seconds": 10,
        "agent_settle_seconds": 5,
        "upgrade_waves": [1, "100%"],
    }
    made: list[Host] = []
    try:
        for host in hosts.values():
            made.append(host)
            host.make_disk()
        fleet = Fleet(folder, hosts, variables)
        fleet.boot()
        yield fleet
    finally:
        for host in made:
            host.remove()


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


def load(fleet: Fleet, key: str) -> Load:
    return Load(fleet.controller.address, 4000, key, "talk")


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


async def test_a_partition_ends_with_one_reconciliation(fleet: Fleet) -> None:
    before = ready(fleet.listed("ps"))
    name = next(iter(before.values()))
    engines = units(fleet)
    newest = max(int(event["sequence"]) for event in fleet.listed("events", "--limit", "1"))
    address = next(row["base_url"] for row in fleet.listed("ps") if row["host_name"] == name)
    fleet[name].cable.unplug()
    try:
        away = {"name": name, "state": "DISCONNECTED"}
        await fleet.until(("hosts",), lambda rows: any(away.items() <= row.items() for row in rows))
        assert fleet[name].call("python3", "-c", HEALTH, f"{address}/health").ok() == "200"
    finally:
        fleet[name].cable.plug()
    await fleet.until(("hosts",), lambda rows: name in connected(rows))
    await fleet.until(("ps",), lambda rows: ready(rows) == before)
    assert units(fleet) == engines
    kinds = [event["kind"] for event in fleet.listed("events", "--after", str(newest), "--host", name)]
    # None where the old session was still good.
    assert kinds.count("host.connected") <= 1, kinds
    assert not {"agent.started", "replica.starting", "replica.failed"} & set(kinds), kinds


@pytest.mark.parametrize("to", [1, 0], ids=["to the next release", "and back"])
async def test_no_request_notices_an_upgrade(fleet: Fleet, archives: tuple[Path, Path], key: str, to: int) -> None:
    engines, version = units(fleet), NEXT if to else releases.version()
    with load(fleet, key) as requests:
        played = await asyncio.to_thread(fleet.play, "upgrade", release_archive=str(archives[to]))
    played.ok()
    assert (requests.failed, requests.ok > 0) == ([], True)
    assert units(fleet) == engines, "engines are those that ran before"
    assert {row["facts"]["agent_version"] for row in fleet.listed("hosts")} == {version}
    assert fleet.shown("status")["version"] == version


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
