"""A fleet that has joined: a coordinator with TLS, two agents, a gateway, and the ``studio`` CLI beside them."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from fakes.agent_process import AgentProcess
from fakes.control_plane import PostgresProcess, log_of
from fakes.gateway_process import GatewayProcess
from fakes.ports import free_port
from studio_runtime.identity.folder import IdentityFolder

BIN = Path(sys.executable).parent
HOSTS = ("h1", "h2")


@dataclass
class TlsFleet:
    folder: Path
    node_port: int
    admin_port: int
    agents: dict[str, AgentProcess]
    gateway: GatewayProcess | None = None

    @property
    def environment(self) -> dict[str, str]:
        """Of an operator on the coordinator's machine."""
        state = self.folder / "coordinator"
        return os.environ | {
            "STUDIO_COORDINATOR": f"127.0.0.1:{self.admin_port}",
            "STUDIO_CA_FILE": str(state / "authorities.pem"),
            "STUDIO_TOKEN_FILE": str(state / "local-token"),
            "NO_COLOR": "1",
        }

    def identity(self, name: str) -> IdentityFolder:
        """Where ``h1``, ``h2`` or ``gateway`` keeps its identity."""
        folder = self.folder / "gateway" if name == "gateway" else self.agents[name].state
        return IdentityFolder(folder / "identity")

    async def studio(self, *arguments: str, stdin: str = "") -> tuple[int, str, str]:
        """Run the CLI; its exit code and what it printed."""
        return await self._run("studio", *arguments, stdin=stdin)

    async def told(self, *arguments: str) -> Any:
        """What the CLI answers as JSON."""
        code, out, error = await self.studio(*arguments, "-o", "json")
        assert code == 0, error
        return json.loads(out)

    async def join(self, name: str) -> None:
        """Let a node join by the commands that an operator types."""
        program, noun = ("studio-gateway", "gateways") if name == "gateway" else ("studio-agent", "hosts")
        token = await self.told(noun, "token", "--name", name)
        folder = self.folder / "gateway" if name == "gateway" else self.agents[name].state
        arguments = ["--coordinator", f"127.0.0.1:{self.admin_port}", "--state-dir", str(folder), "--token-file", "-"]
        arguments += ["--fingerprint", token["authority_fingerprint"]]
        code, out, error = await self._run(program, "join", *arguments, stdin=token["token"])
        assert code == 0, error
        assert f"{name} (id" in out

    async def _run(self, program: str, *arguments: str, stdin: str) -> tuple[int, str, str]:
        process = await asyncio.create_subprocess_exec(
            *(BIN / program, *arguments),
            env=self.environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, error = await process.communicate(stdin.encode())
        assert process.returncode is not None
        return process.returncode, out.decode(), error.decode()


@asynccontextmanager
async def coordinator_process(folder: Path, url: str, node_port: int, admin_port: int) -> AsyncIterator[None]:
    ready = folder / "coordinator.json"
    ready.unlink(missing_ok=True)
    arguments = ["--tls", "--listen", f"127.0.0.1:{node_port}", "--admin-listen", f"127.0.0.1:{admin_port}"]
    arguments += ["--state-dir", str(folder / "coordinator"), "--metrics", "127.0.0.1:0", "--ready-file", str(ready)]
    arguments += ["--lease-ttl-seconds", "3", "--heartbeat-seconds", "1"]
    with log_of(folder, "coordinator") as log:
        process = await asyncio.create_subprocess_exec(
            *(BIN / "studio-coordinator", "serve", *arguments),
            env=os.environ | {"STUDIO_DATABASE_URL": url, "HF_HUB_OFFLINE": "1"},
            stdout=log,
            stderr=log,
        )
    try:
        async with asyncio.timeout(60):
            while not ready.exists():
                assert process.returncode is None, (folder / "coordinator.log").read_text()
                await asyncio.sleep(0.05)
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.wait(), 30)


@asynccontextmanager
async def running_tls_fleet(folder: Path) -> AsyncIterator[TlsFleet]:
    postgres = PostgresProcess(folder)
    await postgres.start()
    try:
        async with AsyncExitStack() as stack:
            ports = free_port(), free_port()
            await stack.enter_async_context(coordinator_process(folder, postgres.embedded.url, *ports))
            agents = {}
            for name in HOSTS:
                (folder / name).mkdir()
                agents[name] = AgentProcess(folder / name, f"127.0.0.1:{ports[0]}")
            fleet = TlsFleet(folder, *ports, agents)
            await asyncio.gather(*(fleet.join(name) for name in (*HOSTS, "gateway")))
            for agent in agents.values():
                await stack.enter_async_context(agent)
            fleet.gateway = await GatewayProcess.start(Path(sys.executable), folder, ports[0], "--litellm", "off")
            stack.push_async_callback(fleet.gateway.kill)
            yield fleet
    finally:
        await postgres.stop()


async def eventually(question: Callable[[], Awaitable[Any]], at_most_seconds: float = 60.0) -> Any:
    """Ask until the answer is true."""
    async with asyncio.timeout(at_most_seconds):
        while not (answer := await question()):
            # Most questions are a process of their own, which costs more than the wait.
            await asyncio.sleep(0.7)
        return answer


@asynccontextmanager
async def streaming(url: str, secret: str, model: str, tokens: int) -> AsyncIterator[aiohttp.ClientResponse]:
    """A request whose answer is still coming."""
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": tokens, "stream": True}
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {secret}"}) as client,
        client.post(f"{url}/v1/chat/completions", json=body) as response,
    ):
        yield response
