"""Real vLLM, started by the driver's own command: ready, answers, counts, stops."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import openai
import pytest
from fakes.ports import free_port
from google.protobuf.json_format import ParseDict
from google.protobuf.timestamp_pb2 import Timestamp
from studio.v1.recipe_pb2 import Recipe
from studio.v1.replica_pb2 import ReplicaFigures, StartProgress
from studio_agent.engines import driver_for
from studio_agent.engines.base import LaunchContext

DRIVER = driver_for("vllm")
START_SECONDS = 300
STOP_SECONDS = 60
HELLO = [{"role": "user", "content": "hello"}]


@dataclass
class Engine:
    process: subprocess.Popen[bytes]
    url: str
    log: Path

    def lines(self) -> list[str]:
        return self.log.read_text(errors="replace").split("\n")

    async def until_healthy(self) -> None:
        async with aiohttp.ClientSession() as session, asyncio.timeout(START_SECONDS):
            while True:
                assert self.process.poll() is None, DRIVER.classify(self.lines(), self.process.poll())
                try:
                    async with session.get(self.url + DRIVER.ready_path) as answer:
                        if answer.status == 200:
                            return
                except aiohttp.ClientConnectionError:
                    await asyncio.sleep(0.2)


def start(program: Path, model: str, folder: Path, **args: object) -> Engine:
    port = free_port()
    recipe = ParseDict(
        {"name": "tiny", "args": {"max_model_len": {"value": 512}, "enforce_eager": True, **args}}, Recipe()
    )
    context = LaunchContext(
        program=(str(program),),
        host="127.0.0.1",
        port=port,
        model_path=model,
        model_names=("tiny", "tiny-alias"),
        gpu_uuids=(),
        gpu_memory_bytes=0,
        cache_dir=folder / "cache",
        process_label="tiny-1",
    )
    spec = DRIVER.launch_spec(recipe, context)
    log = folder / "engine.log"
    with log.open("wb") as file:
        process = subprocess.Popen(spec.argv, env=spec.env, stdout=file, stderr=file, start_new_session=True)
    return Engine(process, f"http://127.0.0.1:{port}", log)


def end(engine: Engine) -> None:
    """Kill whatever is left of its session."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(engine.process.pid, signal.SIGKILL)
    engine.process.wait()


@pytest.fixture
async def engine(engine_environment: Path, tiny_model: Path, tmp_path: Path) -> AsyncIterator[Engine]:
    started = await asyncio.to_thread(start, engine_environment, str(tiny_model), tmp_path)
    try:
        await started.until_healthy()
        yield started
    finally:
        await asyncio.to_thread(end, started)


async def figures(engine: Engine) -> ReplicaFigures:
    async with aiohttp.ClientSession() as session, session.get(f"{engine.url}/metrics") as page:
        return DRIVER.figures(await page.text(), Timestamp())


def session_of(leader: int) -> set[int]:
    """The processes of the session that ``leader`` opened."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if os.getsid(int(entry.name)) == leader:
                    found.add(int(entry.name))
            except ProcessLookupError:
                continue
    return found


async def test_it_starts_answers_counts_and_stops(engine: Engine):
    phases = [said.phase for line in engine.lines() if (said := DRIVER.progress(line))]
    assert phases == sorted(phases)
    assert {StartProgress.PHASE_INIT, StartProgress.PHASE_WEIGHTS, StartProgress.PHASE_WARM_UP} <= set(phases)

    canary = DRIVER.canary("tiny")
    async with aiohttp.ClientSession() as session, session.post(engine.url + canary.path, json=canary.body) as answer:
        assert answer.status == 200
        assert (await answer.json())["usage"]["completion_tokens"] == 1

    async with openai.AsyncOpenAI(base_url=f"{engine.url}/v1", api_key="none", max_retries=0) as client:
        assert [model.id async for model in client.models.list()] == ["tiny", "tiny-alias"]
        whole = await client.chat.completions.create(model="tiny-alias", messages=HELLO, max_tokens=6, temperature=0)
        assert whole.usage is not None
        assert 1 <= whole.usage.completion_tokens <= 6
        stream = await client.chat.completions.create(
            model="tiny",
            messages=HELLO,
            max_tokens=6,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
        events = [event async for event in stream]
        assert events[-1].choices == []
        assert events[-1].usage is not None
        assert events[-1].usage.total_tokens == whole.usage.total_tokens
        assert (
            "".join(e.choices[0].delta.content or "" for e in events if e.choices) == whole.choices[0].message.content
        )

    now = await figures(engine)
    assert not now.stale
    assert (now.running, now.waiting) == (0, 0)
    assert now.generation_tokens_total == 1 + 2 * whole.usage.completion_tokens
    assert now.time_to_first_token_seconds.count == 3
    for name in ("kv_used_share", "prompt_tokens_total", "prefix_hit_share", "inter_token_seconds"):
        assert now.HasField(name)

    leader = engine.process.pid
    assert len(session_of(leader)) >= 3
    engine.process.terminate()
    assert await asyncio.to_thread(engine.process.wait, STOP_SECONDS) == 0
    async with asyncio.timeout(STOP_SECONDS):
        while session_of(leader):
            await asyncio.sleep(0.1)


@pytest.mark.parametrize(
    ("args", "reason"),
    [({"max_model_len": {"value": 99_999}}, "len_too_big"), ({"quantization": "no-such"}, "config_invalid")],
)
async def test_a_start_that_fails_is_named(
    engine_environment: Path, tiny_model: Path, tmp_path: Path, args: dict[str, object], reason: str
):
    failed = await asyncio.to_thread(start, engine_environment, str(tiny_model), tmp_path, **args)
    try:
        code = await asyncio.to_thread(failed.process.wait, START_SECONDS)
    finally:
        await asyncio.to_thread(end, failed)
    failure = DRIVER.classify(failed.lines(), code)
    assert (failure.reason, failure.retryable) == (reason, False), failure


async def test_code_that_comes_with_a_model_is_not_run(
    engine_environment: Path, tiny_model: Path, tmp_path: Path
) -> None:
    canary, model = tmp_path / "it-ran", tmp_path / "model"
    shutil.copytree(tiny_model, model)
    code = (
        f"open({str(canary)!r}, 'w').close()\nfrom transformers import LlamaConfig as Mine, LlamaForCausalLM as Model\n"
    )
    (model / "mine.py").write_text(code)
    for file, classes in (
        ("config.json", {"AutoConfig": "mine.Mine", "AutoModelForCausalLM": "mine.Model"}),
        ("tokenizer_config.json", {"AutoTokenizer": ["mine.Mine", None]}),
    ):
        described = json.loads((model / file).read_text())
        (model / file).write_text(json.dumps(described | {"auto_map": classes}))
    engine = await asyncio.to_thread(start, engine_environment, str(model), tmp_path)
    try:
        await engine.until_healthy()
    finally:
        await asyncio.to_thread(end, engine)
    assert not canary.exists()
    # The code is what it says it is.
    argv = [engine_environment.with_name("python"), model / "mine.py"]
    await asyncio.to_thread(subprocess.run, argv, check=True, capture_output=True)
    assert canary.exists()
