"""The demo engine's misbehaviour, one test for each setting."""

import asyncio
import os
import signal
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from fakes.demo_process import DemoProcess, demo_engine, until
from studio_runtime.process import ProcessIdentity

BODY = {"model": "demo", "prompt": "x", "max_tokens": 20, "stream": True}


def is_open(url: str) -> bool:
    parts = urlsplit(url)
    with socket.socket() as probe:
        return probe.connect_ex((str(parts.hostname), int(parts.port or 0))) == 0


async def post(engine: DemoProcess, path: str = "/v1/completions", **changes: Any) -> tuple[int, bytes]:
    async with aiohttp.ClientSession() as session, session.post(engine.url + path, json={**BODY, **changes}) as answer:
        return answer.status, await answer.read()


async def get(engine: DemoProcess, path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(engine.url + path) as answer:
        return answer.status, await answer.text()


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


async def read_for(answer: aiohttp.ClientResponse, seconds: float) -> bytes:
    """What comes within ``seconds``; fails where the answer ends before."""
    got = b""
    try:
        async with asyncio.timeout(seconds):
            while chunk := await answer.content.readany():
                got += chunk
    except TimeoutError:
        return got
    raise AssertionError(f"the answer ended: {got!r}")


async def test_the_port_opens_only_when_it_is_loaded():
    async with demo_engine("--load-seconds", "0.6", ready=False) as engine:
        await engine.said("25% Completed | 1/4")
        assert not is_open(engine.url)
        await engine.said("Application startup complete")
        assert is_open(engine.url)


async def test_a_taken_port_ends_it_at_once():
    async with demo_engine() as first:
        port = str(urlsplit(first.url).port)
        async with demo_engine("--load-seconds", "60", "--port", port, ready=False) as second:
            assert await second.ended() == 1
            await second.said("Address already in use")


async def test_tokens_come_at_the_set_pace():
    async with demo_engine("--tokens-per-second", "100", "--prefill-seconds", "0.1") as engine:
        loop = asyncio.get_running_loop()
        began = loop.time()
        await post(engine)
        # Twenty tokens at a hundredth of a second, after a tenth: never faster.
        assert loop.time() - began >= 0.1 + 19 / 100


async def test_hang_after_tokens():
    async with (
        demo_engine("--hang-after-tokens", "3") as engine,
        aiohttp.ClientSession() as session,
        session.post(f"{engine.url}/v1/completions", json=BODY) as answer,
    ):
        assert (await read_for(answer, 0.5)).count(b"data: ") == 3
        # A canary of one token still passes, and so does the health check.
        assert (await post(engine, max_tokens=1))[1].endswith(b"data: [DONE]\n\n")
        assert (await get(engine, "/health"))[0] == 200
        assert 'vllm:num_requests_running{engine="0",model_name="demo"} 1.0' in (await get(engine, "/metrics"))[1]


async def test_die_after_tokens():
    async with demo_engine("--die-after-tokens", "2") as engine:
        with pytest.raises(aiohttp.ClientPayloadError):
            await post(engine)
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await post(engine, stream=False)
        assert engine.process.poll() is None


async def test_health_that_lies_ok():
    async with demo_engine("--health-lie", "ok") as engine, aiohttp.ClientSession() as session:
        assert (await get(engine, "/health"))[0] == 200
        async with session.post(f"{engine.url}/v1/completions", json={**BODY, "max_tokens": 1}) as answer:
            assert await read_for(answer, 0.3) == b""


async def test_health_that_lies_failing():
    async with demo_engine("--health-lie", "failing") as engine:
        assert (await get(engine, "/health"))[0] == 503
        assert (await post(engine))[0] == 200


async def test_malformed_events():
    async with demo_engine("--malformed-events") as engine:
        events = (await post(engine))[1].split(b"\n\n")
        assert sum(event.startswith(b"data: {") and not event.endswith(b"}") for event in events) == 1
        assert events[-2] == b"data: [DONE]"


async def test_sigterm_lets_answers_finish():
    async with demo_engine("--tokens-per-second", "50") as engine, aiohttp.ClientSession() as session:
        async with session.post(f"{engine.url}/v1/completions", json=BODY) as answer:
            engine.process.terminate()
            assert (await answer.read()).endswith(b"data: [DONE]\n\n")
        assert await engine.ended() == 0
        assert not is_open(engine.url)


async def test_ignore_sigterm():
    async with demo_engine("--ignore-sigterm") as engine:
        engine.process.terminate()
        await engine.said("SIGTERM ignored")
        assert engine.process.poll() is None


@pytest.mark.parametrize(
    ("flags", "code"),
    [
        (["--exit-code", "3"], 3),
        (["--exit-after-seconds", "0.2", "--exit-code", "0"], 0),
        (["--fail-line", "CUDA error: x"], 1),
        (["--fail-line", "CUDA error: x", "--exit-code", "7"], 7),
    ],
)
async def test_exits(flags: list[str], code: int):
    async with demo_engine("--load-seconds", "0.4", *flags, ready=False) as engine:
        assert await engine.ended() == code
        if "--fail-line" in flags:
            await engine.said("ERROR")
            await engine.said("CUDA error: x")


async def test_memory_is_claimed_while_it_runs(tmp_path: Path):
    env = {"STUDIO_DEMO_GPU_MEMORY_DIR": str(tmp_path), "CUDA_VISIBLE_DEVICES": "GPU-a,GPU-b"}
    async with demo_engine("--gpu-memory-bytes", "4096", env=env) as engine:
        pid = engine.pid
        claims = {f"GPU-a.{pid}", f"GPU-b.{pid}"}
        assert names(tmp_path) == claims
        assert {(tmp_path / claim).read_text() for claim in claims} == {"4096\n"}
        await post(engine, "/sleep")
        assert not names(tmp_path)
        await post(engine, "/wake_up")
        assert names(tmp_path) == claims
        engine.process.terminate()
        await engine.ended()
        assert not names(tmp_path)


async def test_a_left_child_outlives_it_and_holds_memory(tmp_path: Path):
    env = {"STUDIO_DEMO_GPU_MEMORY_DIR": str(tmp_path), "CUDA_VISIBLE_DEVICES": ""}
    async with demo_engine("--leave-child", "--gpu-memory-bytes", "1", env=env) as engine:
        child = int((await engine.said("left a child behind")).split()[-1])
        try:
            claim = tmp_path / f"cpu.{child}"
            await until(claim.exists)
            engine.process.terminate()
            await engine.ended()
            assert ProcessIdentity.of(child)
            assert os.getsid(child) == child
            assert names(tmp_path) == {claim.name}
        finally:
            os.kill(child, signal.SIGKILL)
        await until(lambda: ProcessIdentity.of(child) is None)


async def test_a_broken_command_line_is_refused():
    async with demo_engine("--health-lie", "perhaps", ready=False) as engine:
        assert await engine.ended() == 2
        await engine.said("invalid choice")
