"""What prefix affinity is worth: conversations of several turns over four engines with a prefix cache, by each strategy.

The engines are stand-ins: their cache is kept by blocks of 16 tokens as vLLM's is, a prompt takes the time of what it does not
hold. Everything else is real: the gateway, its picking, the streams. Prints hit rate and time to the first token of each strategy
in one run, writes ``bench/out/affinity.json`` and the chart of ``docs/affinity.svg``.
"""

import asyncio
import hmac
import json
import random
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import aiohttp
from peers import KEY
from processes import free_port, running
from studio.v1.route_pb2 import AccessTable, ApiKey, Endpoint, Route, RouteTable

ENGINES = 4
CONVERSATIONS = 48
TURNS = 8
AT_ONCE = 16
# Of a prefill: a 70B model on a busy GPU does a few thousand.
PREFILL_TOKENS_PER_SECOND = 4000
FIRST_PROMPT_WORDS = 300
TURN_WORDS = 60
STRATEGIES = ("round_robin", "least_work", "prefix_affinity")
COLOURS = {"round_robin": "#dc2626", "least_work": "#7c3aed", "prefix_affinity": "#059669"}
ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Outcome:
    """What one strategy came to; times in seconds."""

    strategy: str
    hit_share: float
    ttft_mean_seconds: float
    ttft_by_turn_seconds: list[float]


def words(chance: random.Random, count: int) -> str:
    """Text that nobody else has."""
    return " ".join(f"{chance.randrange(16**6):06x}" for _ in range(count))


async def ask(client: aiohttp.ClientSession, url: str, messages: list[dict[str, str]]) -> tuple[float, str]:
    """Seconds to the first token, and the whole answer."""
    body = {"model": "tiny", "stream": True, "max_tokens": 24, "messages": messages}
    began, first, text = time.perf_counter(), 0.0, ""
    async with client.post(f"{url}/v1/chat/completions", json=body) as response:
        response.raise_for_status()
        async for line in response.content:
            if not line.startswith(b"data: {"):
                continue
            content = "".join(one["delta"].get("content") or "" for one in json.loads(line[6:])["choices"])
            first = first or (time.perf_counter() - began if content else 0.0)
            text += content
    return first, text


async def converse(client: aiohttp.ClientSession, url: str, seed: int, gate: asyncio.Semaphore) -> list[float]:
    """One conversation: each turn repeats all before it. The first-token time of each turn."""
    chance = random.Random(seed)
    messages = [{"role": "system", "content": words(chance, FIRST_PROMPT_WORDS)}]
    times = []
    for _ in range(TURNS):
        messages.append({"role": "user", "content": words(chance, TURN_WORDS)})
        async with gate:
            seconds, answer = await ask(client, url, messages)
        times.append(seconds)
        messages.append({"role": "assistant", "content": answer})
        await asyncio.sleep(chance.uniform(0, 0.2))
    return times


async def load(url: str) -> list[list[float]]:
    """All conversations at once, as far as the gate lets them."""
    gate = asyncio.Semaphore(AT_ONCE)
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {KEY}"}) as client:
        return await asyncio.gather(*(converse(client, url, seed, gate) for seed in range(CONVERSATIONS)))


async def hit_share(ports: list[int]) -> float:
    """Tokens that the engines' caches held, of all that were asked for."""
    queried = hit = 0.0
    async with aiohttp.ClientSession() as client:
        for port in ports:
            async with client.get(f"http://127.0.0.1:{port}/metrics") as response:
                for line in (await response.text()).splitlines():
                    name = line.partition("{")[0]
                    value = line.rpartition(" ")[2]
                    queried += float(value) if name == "vllm:prefix_cache_queries_total" else 0
                    hit += float(value) if name == "vllm:prefix_cache_hits_total" else 0
    return hit / queried


def measure(strategy: str) -> Outcome:
    """One strategy, with engines and a gateway of its own."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        home = Path(folder)
        ports = [free_port() for _ in range(ENGINES)]
        for port in ports:
            argv = [sys.executable, "-m", "studio_agent.demo_engine", "--model", "tiny", "--port", str(port)]
            argv += ["--max-model-len", "32768", "--prefill-tokens-per-second", str(PREFILL_TOKENS_PER_SECOND)]
            stack.enter_context(running(argv, home / f"{port}.log", port))
        endpoints = [
            Endpoint(replica_id=f"tiny-{number}", base_url=f"http://127.0.0.1:{port}", weight=1)
            for number, port in enumerate(ports)
        ]
        routes = RouteTable(version=1, term=1, routes=[Route(model="tiny", endpoints=endpoints, strategy=strategy)])
        key = ApiKey(id="benchmark000", tenant="bench", hash=hmac.digest(b"pepper", KEY.encode(), "sha256"))
        access = AccessTable(version=1, pepper=b"pepper", keys=[key])
        (home / "last-good-routes.binpb").write_bytes(routes.SerializeToString())
        (home / "last-good-access.binpb").write_bytes(access.SerializeToString())
        port = free_port()
        argv = [sys.executable, "-m", "studio_gateway", "--listen", f"127.0.0.1:{port}", "--metrics", "127.0.0.1:0"]
        argv += ["--coordinator", f"127.0.0.1:{free_port()}", "--state-dir", folder, "--log-level", "error"]
        stack.enter_context(running(argv, home / "gateway.log", port))
        times = asyncio.run(load(f"http://127.0.0.1:{port}"))
        share = asyncio.run(hit_share(ports))
    by_turn = [sum(one[turn] for one in times) / len(times) for turn in range(TURNS)]
    mean = sum(map(sum, times)) / (CONVERSATIONS * TURNS)
    return Outcome(strategy, share, mean, by_turn)


def chart(results: list[Outcome]) -> str:
    """Mean time to the first token by turn, one line per strategy; both axes linear from 0."""
    width, height, left, right, top, bottom = 720, 360, 70, 200, 40, 50
    highest = max(max(one.ttft_by_turn_seconds) for one in results)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="{left}" y="22" font-size="14" font-weight="bold">Mean time to the first token, by turn</text>',
        f'<text x="{left}" y="{height - 12}">turn of the conversation</text>',
    ]
    for step in range(5):
        y = height - bottom - step / 4 * (height - top - bottom)
        parts.append(f'<line x1="{left}" y1="{y}" x2="{width - right}" y2="{y}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 8}" y="{y + 4}" text-anchor="end">{highest * step / 4 * 1000:.0f} ms</text>')
    for one in results:
        points = []
        for turn, seconds in enumerate(one.ttft_by_turn_seconds):
            x = left + turn / (TURNS - 1) * (width - left - right)
            y = height - bottom - seconds / highest * (height - top - bottom)
            points.append((round(x, 1), round(y, 1)))
        colour = COLOURS[one.strategy]
        path = " ".join(f"{x},{y}" for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        x, y = points[-1]
        parts.append(
            f'<text x="{x + 8}" y="{y + 4}" fill="{colour}">{one.strategy}: {one.hit_share:.0%} of tokens hit</text>'
        )
    for turn in range(TURNS):
        x = left + turn / (TURNS - 1) * (width - left - right)
        parts.append(f'<text x="{x}" y="{height - bottom + 18}" text-anchor="middle">{turn + 1}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def main() -> None:
    """Measure, print, write."""
    print(f"{CONVERSATIONS} conversations of {TURNS} turns, {AT_ONCE} at once, {ENGINES} engines")
    results = [measure(strategy) for strategy in STRATEGIES]
    base = results[0]
    print(f"{'strategy':<16} {'hit rate':>9} {'TTFT mean':>10} {'against round robin':>20}")
    for one in results:
        ratio = one.ttft_mean_seconds / base.ttft_mean_seconds
        print(f"{one.strategy:<16} {one.hit_share:>9.1%} {one.ttft_mean_seconds * 1000:>7.1f} ms {ratio:>19.2f}x")
    out = ROOT / "bench" / "out"
    out.mkdir(exist_ok=True)
    (out / "affinity.json").write_text(json.dumps([asdict(one) for one in results], indent=2) + "\n")
    (ROOT / "docs" / "affinity.svg").write_text(chart(results))


if __name__ == "__main__":
    main()
