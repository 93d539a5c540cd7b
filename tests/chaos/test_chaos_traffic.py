"""Engines, agent, coordinator and gateway workers are killed at random under load, and the model is put to sleep: every request
has exactly one end.

``CHAOS_SECONDS`` says for how long (default 60); ``CHAOS_SEED`` repeats a run's choices, though not its timing.
"""

import asyncio
import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
from fakes.gateway_process import GatewayProcess
from fakes.whole_system import System, eventually

SECONDS = float(os.environ.get("CHAOS_SECONDS", "60"))
SEED = int(os.environ.get("CHAOS_SEED", str(random.randrange(10**6))))
CLIENTS = 24
REPLICAS = 3
# Longer than any answer takes, with the waits for an engine that comes back: what lasts longer hangs.
PATIENCE_SECONDS = 60
RECOVERY_SECONDS = 90
# Restarts of one engine in ten minutes; then it is given up.
RESTART_BUDGET = 3
RUNGS = {"asleep": (), "asleep deeply": ("--level", "2"), "stopped": ("--stop",)}
CHAT = "/v1/chat/completions"
RECIPE = """
kind: Recipe
name: chaotic
engine: {name: demo}
args: {sleep_mode: true, demo: {load_seconds: 0.3, tokens_per_second: 60}}
---
kind: Deployment
name: chaotic
recipe: chaotic
replicas: {min: 3, max: 3}
"""


@dataclass
class Checker:
    """Every request that was sent, and how it ended."""

    ends: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    sent: int = 0

    def saw(self, end: str) -> None:
        self.ends[end] += 1

    def wrong(self, what: str) -> None:
        self.broken.append(what)


async def whole(client: aiohttp.ClientSession, url: str, checker: Checker) -> None:
    async with client.post(url + CHAT, json=a_request(stream=False)) as response:
        document = json.loads(await response.read())
    if response.status == 200:
        content = document["choices"][0]["message"]["content"]
        if not content or document["usage"]["completion_tokens"] != 20:
            checker.wrong(f"half an answer came as a whole one: {document}")
        checker.saw("answered")
    else:
        refused(response.status, document, checker)


async def stream(client: aiohttp.ClientSession, url: str, checker: Checker) -> None:
    async with client.post(url + CHAT, json=a_request(stream=True)) as response:
        if response.status != 200:
            refused(response.status, json.loads(await response.read()), checker)
            return
        events = [line[6:].strip() async for line in response.content if line.startswith(b"data: ")]
    if not events:
        raise aiohttp.ClientPayloadError("the stream was empty")
    finishes = sum(b'"finish_reason":"' in event.replace(b" ", b"") for event in events)
    errors = sum(event.startswith(b'{"error"') for event in events)
    dones = events.count(b"[DONE]")
    if dones == 1 and not errors and finishes == 1 and events[-1] == b"[DONE]":
        checker.saw("streamed")
    elif errors == 1 and not dones and events[-1].startswith(b'{"error"'):
        checker.saw("error event")
    else:
        checker.wrong(f"a stream ended in {dones} [DONE] and {errors} errors after {finishes} finishes: {events[-2:]}")


def refused(status: int, document: dict[str, object], checker: Checker) -> None:
    error = document.get("error")
    if status not in (429, 502, 503, 504) or not isinstance(error, dict) or not error.get("code"):
        checker.wrong(f"refused with {status} {document}")
    checker.saw(f"refused {status}")


def a_request(*, stream: bool) -> dict[str, object]:
    text = "".join(random.choices("abcdefgh ", k=40))
    return {
        "model": "chaotic",
        "stream": stream,
        "max_tokens": 20,
        "messages": [{"role": "user", "content": text}],
    }


async def client_of(urls: list[str], key: str, checker: Checker, until: float) -> None:
    headers = {"Authorization": f"Bearer {key}"}
    async with aiohttp.ClientSession(headers=headers) as client:
        while time.monotonic() < until:
            ask, url = random.choice((whole, stream)), random.choice(urls)
            checker.sent += 1
            try:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await ask(client, url, checker)
            except TimeoutError:
                checker.wrong(f"a request to {url} had no end within {PATIENCE_SECONDS} s")
            except (aiohttp.ClientError, ConnectionError):
                # Its gateway worker was killed: the connection's end is the end.
                checker.saw("connection lost")
            await asyncio.sleep(random.uniform(0, 0.2))


async def killer(system: System, gateway: GatewayProcess, until: float, kills: Counter[str]) -> None:
    """Now and then one process ends without a word, or the model goes down a rung of the idle ladder: requests wake it."""
    chance = random.Random(SEED)
    of_replica: Counter[str] = Counter()
    while time.monotonic() < until - 5:
        await asyncio.sleep(chance.uniform(0.5, 2.5))
        rows: list[dict[str, Any]] = []
        what = chance.choice(("engine", "engine", "worker", "agent", "coordinator", *RUNGS))
        try:
            if what in RUNGS:
                # Refused where the coordinator is away, or the model not up.
                done = await asyncio.to_thread(system.studio, "sleep", "chaotic", *RUNGS[what], check=False)
                kills[what] += done.returncode == 0
                continue
            if what == "worker":
                victims = [child.pid for child in psutil.Process(gateway.process.pid).children()]
            elif what == "engine":
                rows = await asyncio.to_thread(system.listed, "ps")
                rows = [row for row in rows if row["deployment"] == "chaotic" and row["pid"]]
                # One that is killed more often is given up, as it should be.
                rows = [row for row in rows if of_replica[row["id"]] < RESTART_BUDGET]
                victims = [row["pid"] for row in rows]
            else:
                victims = [system.pid(what)]
            if victims:
                victim = chance.choice(victims)
                psutil.Process(victim).kill()
                kills[what] += 1
                of_replica.update(row["id"] for row in rows if what == "engine" and row["pid"] == victim)
        except (psutil.Error, AssertionError, OSError, KeyError):
            # It was gone already, or nobody could say where it is.
            continue


@pytest.fixture
async def gateway(system: System, tmp_path: Path) -> AsyncIterator[GatewayProcess]:
    more = ("--workers", "2", "--token-file", str(system.home / "coordinator" / "local-token"))
    gateway = await GatewayProcess.start(Path(sys.executable), tmp_path, system.coordinator_port, *more)
    yield gateway
    await gateway.terminate()


@pytest.mark.timeout(SECONDS + 240)
async def test_every_request_has_exactly_one_end(system: System, gateway: GatewayProcess, tmp_path: Path):
    sys.stdout.write(f"CHAOS_SEED={SEED}\n")
    manifest = tmp_path / "chaotic.yaml"
    manifest.write_text(RECIPE)
    await asyncio.to_thread(system.studio, "apply", "-f", str(manifest))
    await asyncio.to_thread(eventually, lambda: ready(system) == REPLICAS)
    key = json.loads((await asyncio.to_thread(system.studio, "keys", "create", "chaos", "-o", "json")).stdout)
    urls = [gateway.url]
    checker, kills = Checker(), Counter[str]()
    await until_answered(gateway.url, key["secret"])
    until = time.monotonic() + SECONDS
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(killer(system, gateway, until, kills))
        for _ in range(CLIENTS):
            tasks.create_task(client_of(urls, key["secret"], checker, until))
    sys.stdout.write(f"sent {checker.sent}, killed {dict(kills)}, ends {dict(checker.ends)}\n")
    assert checker.broken == []
    assert sum(checker.ends.values()) == checker.sent
    # Nothing is counted twice; what a killed worker had not handed on is all that may be missing.
    recorded = await asyncio.to_thread(eventually, lambda: requests_of(system, key["key"]["id"]), RECOVERY_SECONDS)
    assert recorded <= checker.sent
    assert checker.ends["answered"] + checker.ends["streamed"] > checker.sent // 2
    # And all is well again, without anybody's help but a request's.
    await until_answered(gateway.url, key["secret"])
    await asyncio.to_thread(eventually, lambda: ready(system) == REPLICAS, RECOVERY_SECONDS)


def requests_of(system: System, key_id: str) -> int:
    rows = system.listed("usage", "--by", "key")
    return sum(int(row["requests"]) for row in rows if row["key_id"] == key_id)


def ready(system: System) -> int:
    return sum(row["deployment"] == "chaotic" and row["state"] == "READY" for row in system.listed("ps"))


async def until_answered(url: str, key: str) -> None:
    async with (
        asyncio.timeout(RECOVERY_SECONDS),
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {key}"}) as client,
    ):
        while True:
            try:
                async with client.post(url + CHAT, json=a_request(stream=False)) as response:
                    if response.status == 200:
                        return
            except (aiohttp.ClientError, ConnectionError):
                pass
            await asyncio.sleep(0.2)
