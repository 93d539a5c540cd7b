"""A control plane under attack: two coordinators on one PostgreSQL, an agent and a gateway that know both, all real processes."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import aiohttp
import grpc
import psutil
from fakes.agent_process import AgentProcess
from fakes.gateway_process import GatewayProcess, until
from fakes.ports import free_port
from studio.v1.admin_service_pb2 import (
    ApplyRequest,
    CreateKeyRequest,
    GetStatusRequest,
    ListRecipesRequest,
    ListReplicasRequest,
)
from studio.v1.admin_service_pb2_grpc import AdminServiceStub
from studio.v1.replica_pb2 import Replica
from studio_coordinator.embedded_postgres import prepare, server_argv
from studio_coordinator.store.database import Database
from studio_runtime.channel import open_channel
from studio_runtime.errors import UnavailableError
from studio_runtime.settings import Address

LEASE_SECONDS = 3.0
# What another try, or another coordinator, may answer differently.
PASSING = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.ABORTED)
DEPLOYMENT = """
kind: Recipe
name: slow
engine: {name: demo}
args: {demo: {tokens_per_second: 20}}
---
kind: Deployment
name: slow
recipe: slow
"""


@contextlib.contextmanager
def log_of(folder: Path, name: str) -> Iterator[int]:
    with (folder / f"{name}.log").open("ab") as log:
        yield log.fileno()


class PostgresProcess:
    """A server that can be killed, frozen and started again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.embedded = prepare(folder / "pg")
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        with log_of(self._folder, "postgres") as log:
            self._process = await asyncio.create_subprocess_exec(
                *server_argv(self.embedded.data_dir, {"fsync": "off"}), stdout=log, stderr=log
            )
        database = Database(self.embedded.url, pool_size=1)
        async with asyncio.timeout(30):
            while True:
                with contextlib.suppress(UnavailableError):
                    await database.ping()
                    break
                await asyncio.sleep(0.05)
        await database.close()

    async def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        process = self._process
        assert process is not None
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(how)
        await asyncio.wait_for(process.wait(), 30)

    def backends(self) -> list[psutil.Process]:
        """The server and everything it forked, the server first: what it forks while we look is frozen with it."""
        assert self._process is not None
        server = psutil.Process(self._process.pid)
        return [server, *server.children(recursive=True)]

    def freeze(self) -> None:
        for process in self.backends():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()

    def thaw(self) -> None:
        for process in self.backends():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()


class CoordinatorDaemon:
    """``studio-coordinator serve``, started again when it ends, as its unit is."""

    def __init__(self, folder: Path, name: str, url: str) -> None:
        self.name = name
        self.address = Address("127.0.0.1", free_port())
        self._folder, self._url = folder, url
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        arguments = ["--listen", str(self.address), "--metrics", "127.0.0.1:0"]
        arguments += ["--state-dir", str(self._folder / self.name)]
        arguments += ["--key-pepper-file", str(self._folder / "shared-pepper")]
        arguments += ["--master-key-file", str(self._folder / "shared-master-key")]
        arguments += ["--lease-ttl-seconds", str(LEASE_SECONDS), "--heartbeat-seconds", "1"]
        with log_of(self._folder, self.name) as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "studio_coordinator", "serve", *arguments),
                env=os.environ | {"STUDIO_DATABASE_URL": self._url, "HF_HUB_OFFLINE": "1"},
                stdout=log,
                stderr=log,
            )

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    async def ended(self) -> int:
        assert self._process is not None
        return await self._process.wait()

    def output(self) -> str:
        return (self._folder / f"{self.name}.log").read_text(encoding="utf-8")

    async def keep_running(self) -> None:
        """As a unit with Restart=always does."""
        while True:
            await self.start()
            await self.ended()
            await asyncio.sleep(0.2)


@dataclass
class Operator:
    """Writes to whoever leads, and remembers each write that was acknowledged."""

    addresses: list[Address]
    written: list[str] = field(default_factory=list)

    async def try_each(self, call: str, request: object, seconds: float = 5.0) -> object:
        """The answer of the first coordinator that gives one; the last refusal where none does."""
        refusal: grpc.aio.AioRpcError | None = None
        for address in self.addresses:
            async with open_channel(address) as channel:
                try:
                    return await getattr(AdminServiceStub(channel), call)(request, timeout=seconds)
                except grpc.aio.AioRpcError as error:
                    # Anything else is an answer, and no other coordinator has a better one.
                    if error.code() not in PASSING:
                        raise
                    refusal = error
        assert refusal is not None
        raise refusal

    async def insist(self, call: str, request: object, at_most_seconds: float = 60.0) -> object:
        async with asyncio.timeout(at_most_seconds):
            while True:
                try:
                    return await self.try_each(call, request)
                except grpc.aio.AioRpcError as error:
                    if error.code() not in PASSING:
                        raise
                    await asyncio.sleep(0.1)

    async def write_on(self) -> None:
        """Apply one recipe after the other, until cancelled."""
        for number in range(1_000_000):
            name = f"w-{len(self.written)}-{number}"
            manifest = f"kind: Recipe\nname: {name}\nengine: {{name: demo}}\n"
            try:
                await self.try_each("Apply", ApplyRequest(manifest=manifest))
            except grpc.aio.AioRpcError as error:
                if error.code() not in PASSING:
                    raise
                await asyncio.sleep(0.1)
            else:
                self.written.append(name)
            await asyncio.sleep(0.05)

    async def lost_writes(self) -> set[str]:
        """Acknowledged writes that are not in the database."""
        found = await self.insist("ListRecipes", ListRecipesRequest())
        return set(self.written) - {revision.recipe.name for revision in found.recipes}  # type: ignore[attr-defined]

    async def leader(self) -> Address | None:
        """Who says that it leads."""
        for address in self.addresses:
            async with open_channel(address) as channel:
                with contextlib.suppress(grpc.aio.AioRpcError):
                    status = await AdminServiceStub(channel).GetStatus(GetStatusRequest(), timeout=1)
                    if status.leader:
                        return address
        return None

    async def ready(self) -> list[Replica]:
        """The replicas that serve."""
        rows = await self.insist("ListReplicas", ListReplicasRequest())
        return [row for row in rows.replicas if row.state == Replica.STATE_READY]  # type: ignore[attr-defined]


@dataclass
class ControlPlane:
    folder: Path
    postgres: PostgresProcess
    coordinators: list[CoordinatorDaemon]
    agent: AgentProcess
    gateway: GatewayProcess
    operator: Operator
    secret: str

    async def leader(self, *, other_than: CoordinatorDaemon | None = None) -> CoordinatorDaemon:
        """Wait until one of the coordinators leads."""
        async with asyncio.timeout(60):
            while True:
                address = await self.operator.leader()
                for coordinator in self.coordinators:
                    if coordinator.address == address and coordinator is not other_than:
                        return coordinator
                await asyncio.sleep(0.05)

    async def stream(self, tokens: int) -> int:
        """One request for so many tokens at 20 in a second; how many came, whole."""
        body = {"model": "slow", "messages": [{"role": "user", "content": "hi"}], "max_tokens": tokens, "stream": True}
        body["stream_options"] = {"include_usage": True}
        async with (
            aiohttp.ClientSession(headers={"Authorization": f"Bearer {self.secret}"}) as client,
            client.post(f"{self.gateway.url}/v1/chat/completions", json=body) as response,
        ):
            assert response.status == 200, await response.text()
            said = (await response.read()).decode()
        assert said.rstrip().endswith("data: [DONE]")
        return int(json.loads(said.rstrip().splitlines()[-3].removeprefix("data: "))["usage"]["completion_tokens"])

    def accepted_terms(self) -> list[tuple[int, int]]:
        """``(term, generation)`` of each assignment that the agent put in force, in that order."""
        lines = [json.loads(line) for line in self.agent.output().splitlines() if '"assignment_accepted"' in line]
        return [(line["term"], line["generation"]) for line in lines]

    def check_that_no_term_went_back(self) -> None:
        accepted = self.accepted_terms()
        assert accepted == sorted(accepted)
        assert len({generation for _, generation in accepted}) == len(accepted)

    @asynccontextmanager
    async def writes(self) -> AsyncIterator[None]:
        """An operator writes all the while; every acknowledged write is there in the end."""
        before = len(self.operator.written)
        async with asyncio.TaskGroup() as tasks:
            writer = tasks.create_task(self.operator.write_on())
            try:
                yield
            finally:
                writer.cancel()
        assert len(self.operator.written) > before
        assert await self.operator.lost_writes() == set()

    async def settled(self, replicas: int = 1) -> None:
        """A change goes through, all the way to an engine: whoever leads, works."""
        await self.operator.insist(
            "Apply", ApplyRequest(manifest=DEPLOYMENT + f"replicas: {{min: {replicas}, max: {replicas}}}\n")
        )
        async with asyncio.timeout(60):
            while len(await self.operator.ready()) != replicas:
                await asyncio.sleep(0.1)


@asynccontextmanager
async def running_control_plane(folder: Path) -> AsyncIterator[ControlPlane]:
    postgres = PostgresProcess(folder)
    (folder / "shared-pepper").write_bytes(os.urandom(32))
    (folder / "shared-master-key").write_text(os.urandom(32).hex(), encoding="ascii")
    await postgres.start()
    coordinators = [CoordinatorDaemon(folder, name, postgres.embedded.url) for name in ("first", "second")]
    addresses = [coordinator.address for coordinator in coordinators]
    named = ",".join(map(str, addresses))
    operator = Operator(addresses)
    keepers = [asyncio.create_task(coordinator.keep_running()) for coordinator in coordinators]
    gateway: GatewayProcess | None = None
    try:
        key = await operator.insist("CreateKey", CreateKeyRequest(name="test", idempotency_key=uuid4().hex))
        gateway = await GatewayProcess.start(
            Path(sys.executable), folder, 1, "--coordinator", named, "--litellm", "off"
        )
        async with AgentProcess(folder, named) as agent:
            secret = key.secret  # type: ignore[attr-defined]
            plane = ControlPlane(folder, postgres, coordinators, agent, gateway, operator, secret)
            await plane.settled()
            yield plane
    finally:
        for keeper in keepers:
            keeper.cancel()
        for coordinator in coordinators:
            # Whichever state it is in.
            coordinator.send(signal.SIGKILL)
            await coordinator.ended()
        if gateway is not None:
            await gateway.kill()
        with contextlib.suppress(psutil.NoSuchProcess):
            postgres.thaw()
        await postgres.stop()


__all__ = ["LEASE_SECONDS", "ControlPlane", "running_control_plane", "until"]
