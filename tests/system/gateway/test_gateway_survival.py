"""The gateway as a process: without its coordinator, through restarts, and on its way out."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
from fakes.front_door import KEY, a_route, a_route_table, an_access_table
from fakes.gateway_process import CoordinatorProcess, GatewayProcess, until
from fakes.ports import free_port
from fakes.upstream import Upstream, chat_chunks, streams

Start = Callable[..., Awaitable[GatewayProcess]]
CHAT = "/v1/chat/completions"


@asynccontextmanager
async def a_client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {KEY}"}) as client:
        yield client


async def until_ready(client: aiohttp.ClientSession, url: str) -> None:
    async with asyncio.timeout(15):
        while True:
            async with client.get(f"{url}/ready") as response:
                if response.status == 200:
                    return
            await asyncio.sleep(0.01)


async def ask(client: aiohttp.ClientSession, url: str) -> int:
    async with client.post(url + CHAT, json={"model": "tiny"}) as response:
        await response.read()
        return response.status


async def test_requests_are_served_without_the_coordinator_and_their_usage_arrives_later(
    tmp_path: Path, start_gateway: Start
):
    port = free_port()
    async with Upstream() as engine, a_client() as client:
        tables = a_route_table(a_route("tiny", engine.url)), an_access_table()
        coordinator = await CoordinatorProcess.start(tmp_path, port, *tables)
        try:
            gateway = await start_gateway(port)
            await until_ready(client, gateway.url)
            assert await ask(client, gateway.url) == 200
            await until(lambda: len(coordinator.usage()) == 1)
            await coordinator.kill()
            assert [await ask(client, gateway.url) for _ in range(5)] == [200] * 5

            # The gateway too: it starts from its last good copy, and what it counted is not lost.
            assert await gateway.terminate() == 0
            gateway = await start_gateway(port)
            assert await ask(client, gateway.url) == 200

            coordinator = await CoordinatorProcess.start(tmp_path, port, *tables)
            await until(lambda: len({record["requestId"] for record in coordinator.usage()}) == 7)
        finally:
            await coordinator.kill()


async def test_sigterm_lets_a_stream_finish_and_accepts_nothing_new(tmp_path: Path, start_gateway: Start):
    port, gate = free_port(), asyncio.Event()
    async with Upstream(streams(chat_chunks("a", "b"), gate=gate)) as engine, a_client() as client:
        tables = a_route_table(a_route("tiny", engine.url)), an_access_table()
        coordinator = await CoordinatorProcess.start(tmp_path, port, *tables)
        try:
            gateway = await start_gateway(port)
            await until_ready(client, gateway.url)
            async with client.post(gateway.url + CHAT, json={"model": "tiny", "stream": True}) as response:
                await response.content.readany()
                leaving = asyncio.create_task(gateway.terminate())
                await _until_refused(gateway.url)
                gate.set()
                assert (await response.read()).endswith(b"data: [DONE]\n\n")
            assert await leaving == 0
            assert [record["finish"] for record in coordinator.usage()] == ["stop"]
        finally:
            await coordinator.kill()


async def _until_refused(url: str) -> None:
    async with asyncio.timeout(10):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
            except ConnectionError:
                # Refused, or reset by the listener that closed under it.
                return
            writer.close()
            await asyncio.sleep(0.01)


async def test_gateway_is_ready_without_a_coordinator_and_small(start_gateway: Start):
    gateway = await start_gateway(free_port())
    async with a_client() as client:
        async with client.get(f"{gateway.url}/health") as response:
            assert response.status == 200
        async with client.get(f"{gateway.url}/v1/models") as response:
            assert response.status == 503
        async with client.get(gateway.metrics_url) as response:
            assert "studio_gateway_route_version" in await response.text()
    assert gateway.memory_mib() < 64
    assert await gateway.terminate() == 0


async def test_second_gateway_on_the_same_state_and_a_taken_port_are_one_sentence(tmp_path: Path, start_gateway: Start):
    gateway = await start_gateway(free_port())
    address = gateway.url.removeprefix("http://")
    for state, port, sentence in (("gateway", "127.0.0.1:0", "--state-dir"), ("other", address, "--listen")):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "studio_gateway", "--state-dir", str(tmp_path / state), "--listen", port),
            stderr=asyncio.subprocess.PIPE,
        )
        _, said = await process.communicate()
        assert process.returncode == 1
        assert sentence in said.decode()
        assert len(said.decode().strip().splitlines()) == 1
