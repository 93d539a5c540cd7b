"""Two coordinators that Ansible provisions on one database: the second takes over when the first one's host is gone.

The database's tables are another role's, and the passwords of both are in no argument list.
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
from fleet.network import PREFIX_BITS, Network
from fleet.provisioning import Fleet, booted_fleet, eventually
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from studio_coordinator.embedded_postgres import DATABASE, prepare, running

NAMES = ("control1", "control2")
PORT = 5432
COORDINATOR, OWNER = "coordinator", "owner"
PASSWORD = "nobody-but-the-database-knows"
OWNERS = "SELECT tableowner FROM pg_tables WHERE tablename IN ('audit', 'operators')"


async def ask(url: str, *statements: str) -> list[str]:
    """Run the statements as the database's superuser; the first column of the last one's rows, where it has some."""
    engine = create_async_engine(url)
    try:
        async with engine.begin() as connection:
            for statement in statements:
                found = await connection.execute(text(statement))
            return [str(row[0]) for row in found] if found.returns_rows else []
    finally:
        await engine.dispose()


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory, network: Network) -> Iterator[str]:
    """The superuser's URL of a PostgreSQL that the hosts reach, as an operator would run one."""
    data_dir = prepare(tmp_path_factory.mktemp("database") / "pg").data_dir
    with (data_dir / "pg_hba.conf").open("r+") as rules:
        others = rules.read()
        rules.seek(0)
        # The first rule that fits counts.
        rules.write(f"host {DATABASE} {COORDINATOR},{OWNER} {network.gateway}/{PREFIX_BITS} trust\n{others}")
    with running(data_dir, {"listen_addresses": network.gateway, "port": str(PORT)}) as embedded:
        roles = [f"CREATE ROLE {role} LOGIN" for role in (COORDINATOR, OWNER)]
        rights = (f"GRANT {COORDINATOR} TO {OWNER}", f"ALTER DATABASE {DATABASE} OWNER TO {OWNER}")
        asyncio.run(ask(embedded.url, *roles, *rights))
        yield embedded.url


@pytest.fixture(scope="module")
def fleet(host_disks: Path, network: Network, database: str, release: Path) -> Iterator[Fleet]:
    assert database
    urls = {
        role: f"postgresql+asyncpg://{role}:{PASSWORD}@{network.gateway}:{PORT}/{DATABASE}"
        for role in (COORDINATOR, OWNER)
    }
    variables = {
        "release_archive": str(release),
        "coordinator_database": "url",
        "coordinator_database_url": urls[COORDINATOR],
        "coordinator_database_owner_url": urls[OWNER],
    }
    groups = {"coordinators": NAMES, "gateways": (), "agents": ()}
    with booted_fleet(host_disks / "two-coordinators", network, groups, variables) as fleet:
        yield fleet


@contextmanager
def argument_lists_with(secret: str) -> Iterator[set[str]]:
    """Of all processes that are seen while the block runs, those of test hosts included."""
    found: set[str] = set()
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.05):
            for file in Path("/proc").glob("[0-9]*/cmdline"):
                with suppress(OSError):
                    if secret.encode() in (words := file.read_bytes()):
                        found.add(words.replace(b"\0", b" ").decode(errors="replace"))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield found
    finally:
        over.set()
        watcher.join()


async def test_a_standby_takes_over(fleet: Fleet, database: str) -> None:
    first, second = (fleet[name] for name in NAMES)
    with argument_lists_with(PASSWORD) as lists:
        played = (await asyncio.to_thread(fleet.play, "site", "-v")).ok()
    assert lists == set()
    assert PASSWORD not in played.output
    assert set(await ask(database, OWNERS)) == {OWNER}
    assert fleet.play("site").ok().changed == dict.fromkeys(NAMES, 0)
    status_there = partial(fleet.shown, "status", on=NAMES[1])
    before = await eventually(status_there, lambda status: status["leader_address"] == f"{first.address}:7070")
    first.power_off()
    after = await eventually(status_there, lambda status: status["leader_address"] == f"{second.address}:7070")
    assert int(after["term"]) > int(before["term"])
    assert "provisioning, admin" in fleet.studio("whoami", on=NAMES[1]).ok()
