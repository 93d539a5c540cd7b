"""Faults of the front door that need processes of their own: a worker that stands still, clients that do not get on."""

import asyncio
import os
import resource
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp
import psutil
import pytest
from fakes.front_door import KEY, a_route, a_route_table, an_access_table
from fakes.gateway_process import GatewayProcess, until
from fakes.ports import free_port
from fakes.route_service import RouteServer
from fakes.upstream import Upstream, answers, chat_answer

Start = Callable[..., Awaitable[GatewayProcess]]
CHAT = "/v1/chat/completions"
SLOW_CLIENTS = 500


async def ask(url: str) -> str:
    """One request over a connection of its own, so that any worker may get it; the text of its answer."""
    headers = {"Authorization": f"Bearer {KEY}", "Connection": "close"}
    async with (
        aiohttp.ClientSession(headers=headers) as client,
        client.post(url + CHAT, json={"model": "tiny"}) as response,
    ):
        assert response.status == 200, await response.text()
        return str((await response.json())["choices"][0]["message"]["content"])


async def test_a_worker_that_stands_still_holds_nobody_up_and_catches_up(start_gateway: Start):
    """One of N is stale: nobody is sent to it meanwhile, and what it missed it has as soon as it goes on."""
    async with (
        Upstream(answers(chat_answer("old"))) as old,
        Upstream(answers(chat_answer("new"))) as new,
        RouteServer(an_access_table(), a_route_table(a_route("tiny", old.url))) as coordinator,
    ):

        def with_table(version: int) -> int:
            return sum(ack.route_version == version and ack.access_version == 1 for ack in coordinator.acks)

        gateway = await start_gateway(coordinator.port, "--workers", "2")
        await until(lambda: with_table(1) == 2)
        still, _ = psutil.Process(gateway.process.pid).children()
        os.kill(still.pid, signal.SIGSTOP)
        try:
            await coordinator.send(a_route_table(a_route("tiny", new.url), version=2))
            await until(lambda: with_table(2) == 1)
            assert [await ask(gateway.url) for _ in range(20)] == ["new"] * 20
            assert with_table(2) == 1, "the coordinator can tell that one of them has not followed"
        finally:
            os.kill(still.pid, signal.SIGCONT)
        await until(lambda: with_table(2) == 2)
        assert still.is_running()


@pytest.fixture
def many_files() -> Iterator[None]:
    """Descriptors for the clients of this test; the gateway inherits the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4 * SLOW_CLIENTS)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_files")
async def test_five_hundred_clients_that_do_not_get_on_cost_others_nothing(start_gateway: Start):
    async with (
        Upstream(answers(chat_answer("quick"))) as engine,
        RouteServer(an_access_table(), a_route_table(a_route("tiny", engine.url))) as coordinator,
        AsyncExitStack() as stack,
    ):
        gateway = await start_gateway(coordinator.port)
        await coordinator.until_acked(2)
        before = gateway.memory_mib()
        half_a_head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nX: ".encode()
        half_a_body = (
            f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nContent-Length: 9999\r\n\r\n{{"
        )
        for number in range(SLOW_CLIENTS):
            said = (b"", half_a_head, half_a_body.encode())[number % 3]
            await stack.enter_async_context(slow_client(gateway.url, said))
        of_gateway = psutil.Process(gateway.process.pid)
        # The last have been accepted by the kernel at first.
        await until(
            lambda: (
                sum(one.status == psutil.CONN_ESTABLISHED for one in of_gateway.net_connections("tcp")) > SLOW_CLIENTS
            )
        )
        assert [await ask(gateway.url) for _ in range(20)] == ["quick"] * 20
        assert gateway.memory_mib() - before < 20


@asynccontextmanager
async def slow_client(url: str, said: bytes):
    """A connection on which no more than ``said`` is ever sent."""
    host, _, port = url.removeprefix("http://").partition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(said)
        yield
    finally:
        writer.transport.abort()


async def test_a_gateway_that_starts_before_its_coordinator_never_says_401_and_needs_no_restart(start_gateway: Start):
    port = free_port()
    gateway = await start_gateway(port)
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {KEY}"}) as client:
        async with client.post(gateway.url + CHAT, json={"model": "tiny"}) as response:
            assert response.status == 503
            assert response.headers["retry-after"]
        async with (
            Upstream(answers(chat_answer("served"))) as engine,
            RouteServer(an_access_table(), a_route_table(a_route("tiny", engine.url)), port=port) as coordinator,
        ):
            await coordinator.until_acked(2)
            assert await ask(gateway.url) == "served"
