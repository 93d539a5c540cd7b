"""A fleet of parts that its operator chose: the distribution's PostgreSQL, an authority of their own, a driver from packages,
and an engine that is installed ahead, all without a network. Plays before broke off on these hosts, at the worst moments.

The tests are one story and run in the order in which they stand.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from fakes.wheels import make_wheel
from fleet import packages, releases
from fleet.hosts import Host
from fleet.network import Network
from fleet.provisioning import Fleet, booted_fleet, eventually
from fleet.studio_host import CHECKOUT
from studio_coordinator.authority.certificates import Signer, make_authority

CONTROLLER, GPU_HOST = "chosen", "chosen-gpu"
# Agent and gateway have the same name.
GROUPS = {"coordinators": (CONTROLLER,), "gateways": (GPU_HOST,), "agents": (GPU_HOST,)}
AUTHORITY = "/etc/house-ca"
TOKEN = "/etc/vllm-studio/operator.token"
WHEELS = "/srv/engines"
ENGINE = {"name": "vllm", "version": "0.0.1"}
PROGRAM = "def main() -> None:\n    print('0.0.1')\n"
ENVIRONMENTS = "/var/lib/studio-agent/engines"
# A host with a GPU is told by the first; the second is as large as an engine needs, whatever this machine's disk is.
LIKE_A_GPU_HOST = (
    ("touch", "/dev/nvidiactl"),
    ("mkdir", "--parents", ENVIRONMENTS),
    ("mount", "-t", "tmpfs", "-o", "size=16G", "tmpfs", ENVIRONMENTS),
)
DATABASES = "SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = 'studio'"


@pytest.fixture(scope="module")
def authority() -> Signer:
    return make_authority(datetime.now(UTC))


@pytest.fixture(scope="module")
def fleet(
    host_disks: Path, network: Network, release: Path, authority: Signer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    wheels = make_wheel(tmp_path_factory.mktemp("engines"), "vllm", "0.0.1", "vllm", PROGRAM).parent
    # The agent's user reads them.
    wheels.chmod(0o755)
    variables = {
        "release_archive": str(release),
        "coordinator_database": "distribution",
        "coordinator_ca_cert": f"{AUTHORITY}/ca.pem",
        "coordinator_ca_key": f"{AUTHORITY}/ca.key",
        "coordinator_heartbeat_seconds": 1,
        "coordinator_leader_grace_seconds": 1,
        "agent_driver_packages": [packages.DRIVER],
        "agent_engines": [ENGINE],
        "agent_wheelhouse": WHEELS,
    }

    def prepare(host: Host) -> None:
        host.binds |= {packages.prepared(): packages.FOLDER, wheels: WHEELS}
        host.write("/etc/apt/sources.list", packages.SOURCES)

    with booted_fleet(host_disks / "chosen-parts", network, GROUPS, variables, prepare) as fleet:
        key = authority.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        fleet.controller.write(f"{AUTHORITY}/ca.pem", authority.pem.decode())
        fleet.controller.write(f"{AUTHORITY}/ca.key", key.decode(), 0o600)
        break_off(fleet.controller, "coordinator")
        break_off(fleet[GPU_HOST], "gateway", "agent")
        for argv in LIKE_A_GPU_HOST:
            fleet[GPU_HOST].call(*argv).ok()
        yield fleet


def break_off(host: Host, *roles: str) -> None:
    """Leave what a play leaves that ended before users and folders were made, and while it made the environment."""
    for role in roles:
        for kind in ("sysusers", "tmpfiles"):
            file = CHECKOUT / f"systemd/vllm-studio-{role}.{kind}.conf"
            if file.exists():
                host.write(f"/usr/lib/{kind}.d/vllm-studio-{role}.conf", file.read_text())
    programs = host.root / f"opt/vllm-studio/releases/{releases.version()}/bin"
    programs.mkdir(parents=True)
    (programs / "python").symlink_to("/usr/bin/python3")


def databases(host: Host) -> str:
    """The encoding of Studio's database in the distribution's PostgreSQL; empty where there is none."""
    return host.call("runuser", "--user", "postgres", "--", "psql", "--no-psqlrc", "-tAc", DATABASES).ok()


def test_a_driver_that_is_missing_is_named_where_it_is_needed(fleet: Fleet) -> None:
    needed = partial(fleet.play, "site", "--check", "--limit", GPU_HOST, agent_driver_packages=[])
    played = needed(agent_require_gpu=True)
    assert played.code != 0
    assert f"{GPU_HOST} has no GPU driver" in played.output
    assert "name its packages in agent_driver_packages" in played.output


def test_whoever_engines_talk_with_is_named_by_address(fleet: Fleet) -> None:
    played = fleet.play("site", "--check", "--limit", GPU_HOST, agent_engine_peers=["10.0.0.0/24", "gate.example"])
    assert played.code != 0
    assert "gate.example: must be an IP address or network" in played.output


def test_from_nothing(fleet: Fleet, authority: Signer) -> None:
    fleet.play("site").ok()
    controller, gpu_host = fleet.controller, fleet[GPU_HOST]
    assert databases(controller) == "UTF8"
    assert controller.call("systemctl", "is-enabled", "studio-postgres.service").code != 0
    (signing,) = fleet.listed("authority", "show")
    assert signing["fingerprint"] == authority.fingerprint
    assert controller.call("cat", f"{AUTHORITY}/ca.key", user="studio-coordinator").code != 0
    assert packages.DRIVER in gpu_host.call("dpkg-query", "--show", packages.DRIVER).ok()
    (engine,) = fleet.listed("engines", "list")
    assert ENGINE.items() <= {"name": engine["engine"], **engine}.items()
    assert gpu_host.call(engine["path"], "--version").ok() == ENGINE["version"]


def test_nothing_is_left_to_change(fleet: Fleet) -> None:
    played = fleet.play("site").ok()
    assert played.changed == dict.fromkeys(fleet.hosts, 0), played.output


async def test_a_play_completes_what_the_one_before_wrote_and_did_not_take_up(fleet: Fleet) -> None:
    """Settings are on the disk already, as the play would write them; what runs has others. And root's token is lost."""
    controller, gpu_host = fleet.controller, fleet[GPU_HOST]
    lost = controller.call("cat", TOKEN).ok()
    controller.call("rm", TOKEN).ok()
    gpu_host.call("sed", "-i", "/^STUDIO_AGENT_OPTIONS/s/$/ --label=rack=r1/", "/etc/vllm-studio/agent.env").ok()
    gpu_host.call("sed", "-i", "/^--workers$/{n;s/1/2/}", "/etc/vllm-studio/gateway.options").ok()
    played = fleet.play("site", "-v", agent_labels={"rack": "r1"}, gateway_workers=2).ok()
    assert "vso_" not in played.output
    assert controller.call("cat", TOKEN).ok() != lost
    assert "provisioning, admin" in fleet.studio("whoami").ok()
    await fleet.until(("hosts",), lambda rows: [row["labels"] for row in rows] == [{"rack": "r1"}])
    supervisor = ("systemctl", "show", "--property=MainPID", "--value", "studio-gateway.service")
    workers = ("pgrep", "--parent", gpu_host.call(*supervisor).ok())
    await eventually(lambda: gpu_host.call(*workers).ok().split(), lambda found: len(found) == 2)


def test_all_of_it_is_removed(fleet: Fleet) -> None:
    fleet[GPU_HOST].call("umount", ENVIRONMENTS).ok()
    meant = {"remove_confirmed": True, "remove_data": True}
    fleet.play("remove", "--limit", GPU_HOST, **meant).ok()
    for noun in ("hosts", "gateways"):
        assert [row for row in fleet.listed(noun, "identities") if "revoked_at" not in row] == []
    fleet.play("remove", "--limit", CONTROLLER, **meant).ok()
    assert databases(fleet.controller) == ""
    left = (
        "/opt/vllm-studio",
        "/etc/vllm-studio",
        "/var/lib/studio-coordinator",
        "/var/lib/studio-agent",
        "/var/lib/studio-gateway",
    )
    for host in fleet.hosts.values():
        assert [path for path in left if host.call("test", "-e", path).code == 0] == []
    assert fleet.controller.call("test", "-e", f"{AUTHORITY}/ca.key").code == 0, "that is the operator's"
