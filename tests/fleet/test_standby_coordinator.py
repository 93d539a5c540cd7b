"""Two coordinators that Ansible provisions on one database: the second takes over when the first one's host is gone."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from fleet.network import PREFIX_BITS, Network
from fleet.provisioning import Fleet, booted_fleet, eventually
from studio_coordinator.embedded_postgres import DATABASE, USER, prepare, running

NAMES = ("control1", "control2")
PORT = 5432


@pytest.fixture(scope="module")
def database_url(tmp_path_factory: pytest.TempPathFactory, network: Network) -> Iterator[str]:
    """A PostgreSQL that the hosts reach, as an operator would run one."""
    data_dir = prepare(tmp_path_factory.mktemp("database") / "pg").data_dir
    with (data_dir / "pg_hba.conf").open("r+") as rules:
        others = rules.read()
        rules.seek(0)
        # The first rule that fits counts.
        rules.write(f"host {DATABASE} {USER} {network.gateway}/{PREFIX_BITS} trust\n{others}")
    with running(data_dir, {"listen_addresses": network.gateway, "port": str(PORT)}):
        yield f"postgresql+asyncpg://{USER}@{network.gateway}:{PORT}/{DATABASE}"


@pytest.fixture(scope="module")
def fleet(host_disks: Path, network: Network, database_url: str, release: Path) -> Iterator[Fleet]:
    variables = {
        "release_archive": str(release),
        "coordinator_database": "url",
        "coordinator_database_url": database_url,
    }
    groups = {"coordinators": NAMES, "gateways": (), "agents": ()}
    with booted_fleet(host_disks / "two-coordinators", network, groups, variables) as fleet:
        yield fleet


async def test_a_standby_takes_over(fleet: Fleet) -> None:
    first, second = (fleet[name] for name in NAMES)
    fleet.play("site").ok()
    assert fleet.play("site").ok().changed == dict.fromkeys(NAMES, 0)
    ask = partial(fleet.shown, "status", on=NAMES[1])
    before = await eventually(ask, lambda status: status["leader_address"] == f"{first.address}:7070")
    first.power_off()
    after = await eventually(ask, lambda status: status["leader_address"] == f"{second.address}:7070")
    assert int(after["term"]) > int(before["term"])
    assert "provisioning, admin" in fleet.studio("whoami", on=NAMES[1]).ok()
