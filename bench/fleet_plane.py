"""The control plane under measurement: PostgreSQL, a coordinator with mTLS, simulated agents, and one real agent and gateway."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
import psutil
from fakes.agent_process import AgentProcess
from fakes.control_plane import PostgresProcess, log_of
from fakes.gateway_process import GatewayProcess
from fakes.ports import free_port
from fakes.tls_fleet import BIN, TlsFleet
from fleet_agents import Crew, host_id
from studio.v1.identity_service_pb2 import Identity
from studio_coordinator.authority.mint import mint
from studio_coordinator.authority.office import AuthorityOffice
from studio_coordinator.identity import Identity as CoordinatorIdentity
from studio_coordinator.store.database import Database

HERE = Path(__file__).parent
CONNECT_SECONDS = 400.0
REAL = "real"
MB = 1_000_000


@dataclass
class Crowd:
    """The process of the simulated agents, and what it said last."""

    process: asyncio.subprocess.Process
    connected: int = 0
    failures: int = 0
    # Number of connected agents and when (monotonic), oldest first.
    history: list[tuple[float, int]] = field(default_factory=list)

    async def listen(self) -> None:
        """Take what it says, until it ends."""
        stream = self.process.stdout
        while stream is not None and (line := await stream.readline()):
            said = json.loads(line)
            self.connected, self.failures = said["connected"], said["failures"]
            self.history.append((said["at"], self.connected))

    async def until(self, connected: int) -> None:
        """Wait until exactly so many are connected."""
        async with asyncio.timeout(CONNECT_SECONDS):
            while self.connected != connected:  # noqa: ASYNC110 - it is another process that says it
                await asyncio.sleep(0.05)


@dataclass(frozen=True)
class Usage:
    """What the coordinator took over a while."""

    # Of one core, in percent: user and system time by the time that passed.
    cpu_percent: float
    rss_mb: float
    statements_per_minute: float
    transactions_per_minute: float
    lag_ms: float


@dataclass
class Plane:
    """All of it, in one folder."""

    folder: Path
    postgres: PostgresProcess
    node_port: int
    admin_port: int
    metrics_port: int
    coordinator: asyncio.subprocess.Process | None = None

    async def start_coordinator(self) -> None:
        """Start it, and wait until it serves."""
        ready = self.folder / "coordinator.json"
        ready.unlink(missing_ok=True)
        arguments = [
            "--tls",
            "--listen",
            f"127.0.0.1:{self.node_port}",
            "--admin-listen",
            f"127.0.0.1:{self.admin_port}",
        ]
        arguments += ["--state-dir", str(self.folder / "coordinator"), "--ready-file", str(ready)]
        arguments += ["--metrics", f"127.0.0.1:{self.metrics_port}"]
        with log_of(self.folder, "coordinator") as log:
            self.coordinator = await asyncio.create_subprocess_exec(
                *(BIN / "studio-coordinator", "serve", *arguments),
                env=os.environ | {"STUDIO_DATABASE_URL": self.postgres.embedded.url, "HF_HUB_OFFLINE": "1"},
                stdout=log,
                stderr=log,
            )
        async with asyncio.timeout(60):
            while not ready.exists():
                if self.coordinator.returncode is not None:
                    raise RuntimeError((self.folder / "coordinator.log").read_text()[-2000:])
                await asyncio.sleep(0.02)

    async def kill_coordinator(self) -> None:
        """As a crash would."""
        process = self.process
        process.send_signal(signal.SIGKILL)
        await process.wait()

    @property
    def process(self) -> asyncio.subprocess.Process:
        """The coordinator that runs."""
        if self.coordinator is None:
            raise RuntimeError("no coordinator was started")
        return self.coordinator

    async def mint(self, hosts: int) -> Path:
        """Certificates for so many simulated hosts, in the file that their process reads."""
        file = self.folder / "identities.jsonl"
        database = Database(self.postgres.embedded.url, pool_size=2)
        try:
            identity = CoordinatorIdentity.load(self.folder / "coordinator")
            office = AuthorityOffice(database, identity.sealer)
            await office.open()
            minted = await mint(office, Identity.KIND_AGENT, [host_id(number) for number in range(hosts)])
        finally:
            await database.close()
        with file.open("w", encoding="utf-8") as lines:
            for one in minted:
                said = {"authorities": one.tls.authorities, "key": one.tls.key, "chain": one.tls.chain}
                lines.write(json.dumps({name: value.decode() for name, value in said.items()}) + "\n")
        file.chmod(0o600)
        return file

    @asynccontextmanager
    async def crowd(self, hosts: int) -> AsyncIterator[Crowd]:
        """So many simulated agents, all connected, while the block runs."""
        crew = self.folder / "crew.json"
        Crew(f"127.0.0.1:{self.node_port}", hosts, str(await self.mint(hosts))).write(crew)
        with log_of(self.folder, "agents") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, str(HERE / "fleet_agents.py"), str(crew)), stdout=asyncio.subprocess.PIPE, stderr=log
            )
        crowd = Crowd(process)
        listening = asyncio.create_task(crowd.listen())
        try:
            await crowd.until(hosts)
            yield crowd
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            listening.cancel()

    async def metrics(self) -> dict[str, float]:
        """What the coordinator's Prometheus page says, without labels."""
        async with (
            aiohttp.ClientSession() as client,
            client.get(f"http://127.0.0.1:{self.metrics_port}/metrics") as page,
        ):
            lines = (await page.text()).splitlines()
        pairs = (line.rpartition(" ") for line in lines if line and line[0] != "#" and "{" not in line)
        return {name: float(value) for name, _, value in pairs}

    async def transactions(self) -> int:
        """Transactions of the database until now."""
        database = Database(self.postgres.embedded.url, pool_size=1)
        try:
            return await committed(database)
        finally:
            await database.close()

    async def usage(self, seconds: float) -> Usage:
        """What the coordinator takes over ``seconds``."""
        process = psutil.Process(self.process.pid)
        before, sent, done, began = (
            sum(process.cpu_times()[:2]),
            await self.metrics(),
            await self.transactions(),
            time.monotonic(),
        )
        await asyncio.sleep(seconds)
        passed = time.monotonic() - began
        cpu = sum(process.cpu_times()[:2]) - before
        after = await self.metrics()
        name = "studio_coordinator_statements_total"
        return Usage(
            cpu_percent=cpu / passed * 100,
            rss_mb=process.memory_info().rss / MB,
            statements_per_minute=(after[name] - sent[name]) / passed * 60,
            transactions_per_minute=(await self.transactions() - done) / passed * 60,
            lag_ms=after["studio_coordinator_loop_lag_longest_seconds"] * 1000,
        )

    @asynccontextmanager
    async def real_parts(self) -> AsyncIterator[tuple[TlsFleet, AgentProcess]]:
        """A real agent and a real gateway, which joined by the commands that an operator types."""
        (self.folder / REAL).mkdir()
        agent = AgentProcess(self.folder / REAL, f"127.0.0.1:{self.node_port}", "--label", f"pool={REAL}")
        fleet = TlsFleet(self.folder, self.node_port, self.admin_port, {REAL: agent})
        async with AsyncExitStack() as stack:
            for name in (REAL, "gateway"):
                await fleet.join(name)
            await stack.enter_async_context(agent)
            fleet.gateway = await GatewayProcess.start(
                Path(sys.executable), self.folder, self.node_port, "--litellm", "off"
            )
            stack.push_async_callback(fleet.gateway.kill)
            yield fleet, agent


async def committed(database: Database) -> int:
    """Transactions that ended, of this database."""
    # SQL lives in the store; this is one question of a benchmark to PostgreSQL's own statistics.
    from sqlalchemy import text  # noqa: PLC0415 - as above

    query = text("SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()")
    async with database.transaction() as conn:
        return int((await conn.execute(query)).scalar_one())


def said_since(log: Path, offset: int, event: str) -> list[dict[str, Any]]:
    """Lines of a log after ``offset`` that tell of ``event``."""
    with log.open("rb") as file:
        file.seek(offset)
        lines = file.read().decode(errors="replace").splitlines()
    return [json.loads(line) for line in lines if f'"event": "{event}"' in line and line.endswith("}")]


def at(line: dict[str, Any]) -> float:
    """When a line was logged, in seconds since 1970."""
    return datetime.fromisoformat(line["timestamp"]).timestamp()


@asynccontextmanager
async def running_plane(folder: Path) -> AsyncIterator[Plane]:
    """PostgreSQL and a coordinator, on free ports."""
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    postgres = PostgresProcess(folder)
    await postgres.start()
    # As a coordinator finds it that is started again.
    database = Database(postgres.embedded.url, pool_size=1)
    await database.upgrade()
    await database.close()
    plane = Plane(folder, postgres, free_port(), free_port(), free_port())
    try:
        await plane.start_coordinator()
        yield plane
    finally:
        if plane.coordinator is not None and plane.coordinator.returncode is None:
            plane.coordinator.kill()
            await plane.coordinator.wait()
        await postgres.stop()
