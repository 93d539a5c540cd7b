"""Limits under attack: many clients, two gateways of two workers each, and not one request too many."""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from fakes.gateway_process import GatewayProcess
from fakes.whole_system import System, eventually

CHAT = "/v1/chat/completions"
CLIENTS = 64


@pytest.fixture
async def gateways(system: System, tmp_path: Path) -> AsyncIterator[list[str]]:
    """Two gateways, each with two workers, beside the one of ``studio up``."""
    system.ready_replica()
    started: list[GatewayProcess] = []
    for name in ("a", "b"):
        folder = tmp_path / name
        folder.mkdir()
        more = ("--workers", "2", "--token-file", str(system.home / "coordinator" / "local-token"))
        gateway = await GatewayProcess.start(Path(sys.executable), folder, system.coordinator_port, *more)
        started.append(gateway)
    yield [gateway.url for gateway in started]
    for gateway in started:
        await gateway.terminate()


def key_with(system: System, *limits: str) -> str:
    made = json.loads(system.studio("keys", "create", "hammer", *limits, "-o", "json").stdout)
    return str(made["secret"])


@asynccontextmanager
async def clients(key: str, count: int) -> AsyncIterator[list[aiohttp.ClientSession]]:
    """Each with connections of its own, so that any worker may get them."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                aiohttp.ClientSession(
                    headers={"Authorization": f"Bearer {key}"}, connector=aiohttp.TCPConnector(force_close=True)
                )
            )
            for _ in range(count)
        ]


async def until_known(urls: list[str], key: str) -> None:
    """Every worker has the key: none of many connections is told that it is wrong."""
    async with asyncio.timeout(20), aiohttp.ClientSession(headers={"Authorization": f"Bearer {key}"}) as client:
        for url in urls:
            known = 0
            while known < 12:
                async with client.get(url + "/v1/models", headers={"Connection": "close"}) as response:
                    known = known + 1 if response.status == 200 else 0


async def hammer(urls: list[str], key: str, body: dict[str, object], each: int) -> list[tuple[int, str]]:
    """Status and error code of every request."""

    async def one(number: int, client: aiohttp.ClientSession) -> list[tuple[int, str]]:
        seen = []
        for turn in range(each):
            async with client.post(urls[(number + turn) % len(urls)] + CHAT, json=body) as response:
                document = await response.json()
                seen.append((response.status, document.get("error", {}).get("code", "")))
        return seen

    async with clients(key, CLIENTS) as sessions:
        answers = await asyncio.gather(*(one(number, client) for number, client in enumerate(sessions)))
    return [answer for some in answers for answer in some]


def a_request(max_tokens: int = 1) -> dict[str, object]:
    return {"model": "demo", "max_tokens": max_tokens, "messages": [{"role": "user", "content": "hello"}]}


async def test_requests_per_minute(system: System, gateways: list[str]):
    key = await asyncio.to_thread(key_with, system, "--requests-per-minute", "50")
    await until_known(gateways, key)
    # A minute that ends meanwhile would begin anew.
    if (left := 60 - time.time() % 60) < 20:
        await asyncio.sleep(left)
    answers = await hammer(gateways, key, a_request(), 4)
    good = [status for status, _ in answers if status == 200]
    assert len(good) == 50
    assert {answer for answer in answers if answer[0] != 200} == {(429, "rate_limit_exceeded")}


async def test_a_token_budget_counts_what_was_used_and_not_what_was_reserved(system: System, gateways: list[str]):
    key = await asyncio.to_thread(key_with, system, "--token-budget", "20000", "--budget-per", "total")
    await until_known(gateways, key)
    answers = await hammer(gateways, key, a_request(10), 6)
    assert {answer for answer in answers if answer[0] != 200} <= {(429, "insufficient_quota")}
    key_id = key.removeprefix("sk-").partition("-")[0]

    def used() -> int:
        rows = [row for row in system.listed("usage", "--by", "key") if row["key_id"] == key_id]
        good = sum(status == 200 for status, _ in answers)
        return rows[0]["prompt_tokens"] + rows[0]["completion_tokens"] if rows and rows[0]["requests"] >= good else 0

    tokens = await asyncio.to_thread(eventually, used)
    assert 0 < tokens <= 20000


async def test_requests_at_the_same_time(system: System, gateways: list[str]):
    """Held open by slow answers; counted by the clients: from the head of an answer to its end a request surely runs."""
    key = await asyncio.to_thread(key_with, system, "--concurrency", "5")
    await until_known(gateways, key)
    running = most = served = 0

    async def one(number: int, client: aiohttp.ClientSession) -> None:
        nonlocal running, most, served
        for turn in range(6):
            body = a_request(30) | {"stream": True}
            async with client.post(gateways[(number + turn) % 2] + CHAT, json=body) as response:
                if response.status != 200:
                    assert response.status == 429
                    continue
                running += 1
                most = max(most, running)
                served += 1
                # The gateway lets the slot go when it has sent the end, before the client has read it.
                async for line in response.content:
                    if b'"finish_reason": "' in line or b'"finish_reason":"' in line:
                        break
                running -= 1
                await response.read()

    async with clients(key, CLIENTS) as sessions:
        await asyncio.gather(*(one(number, client) for number, client in enumerate(sessions)))
    assert served > 5
    assert most <= 5
