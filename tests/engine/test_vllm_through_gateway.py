"""The whole system around real vLLM: one command, then the official client against the gateway."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import openai
import psutil
import pytest
from fakes.demo_process import free_port

START_SECONDS = 600
STOP_SECONDS = 120
HELLO = [{"role": "user", "content": "hello"}]


def start(home: Path, engines_dir: Path, model: Path) -> subprocess.Popen[bytes]:
    home.mkdir()
    # The environment that the lane keeps is what the agent would install here itself.
    (home / "engines").symlink_to(engines_dir)
    argv = [sys.executable, "-m", "studio_cli", "up", "--engine", "vllm", "--model", str(model), "--name", "tiny"]
    ports = ["--gateway-port", str(free_port()), "--coordinator-port", str(free_port())]
    with (home / "up.log").open("wb") as log:
        return subprocess.Popen(
            [*argv, *ports],
            env={**os.environ, "STUDIO_HOME": str(home)},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


async def until_up(up: subprocess.Popen[bytes], home: Path) -> dict[str, Any]:
    file = home / "up.json"
    async with asyncio.timeout(START_SECONDS):
        while not file.exists():
            assert up.poll() is None, (home / "up.log").read_text()
            await asyncio.sleep(0.2)
    fields: dict[str, Any] = json.loads(file.read_text())
    return fields


def of_home(home: Path) -> list[str]:
    """The command lines of processes that have to do with ``home``: its roles, and engines by their caches."""
    found = []
    for process in psutil.process_iter(["cmdline", "environ"]):
        words = [*(process.info["cmdline"] or []), *(process.info["environ"] or {}).values()]
        if process.pid != os.getpid() and any(str(home) in word for word in words):
            found.append(" ".join(process.info["cmdline"] or []))
    return found


def end(up: subprocess.Popen[bytes]) -> None:
    """Ctrl-C; what does not end by itself is killed, so that the tests after this one have the machine."""
    up.send_signal(signal.SIGINT)
    try:
        up.wait(STOP_SECONDS)
    finally:
        if up.poll() is None:
            os.killpg(up.pid, signal.SIGKILL)
            up.wait()


@pytest.fixture(scope="module")
def system(
    engine_environment: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Any]]:
    home = tmp_path_factory.mktemp("studio") / "home"
    up = start(home, engine_environment.parents[2], tiny_model)
    try:
        yield asyncio.run(until_up(up, home))
    finally:
        end(up)
    assert up.returncode == 0, (home / "up.log").read_text()
    assert of_home(home) == []
    assert not (home / "up.json").exists()


@pytest.fixture
async def client(system: dict[str, Any]) -> AsyncIterator[openai.AsyncOpenAI]:
    base_url = f"{system['gateway_url']}/v1"
    async with openai.AsyncOpenAI(base_url=base_url, api_key=system["api_key"], max_retries=0) as opened:
        yield opened


async def test_models_are_listed(client: openai.AsyncOpenAI):
    assert [model.id async for model in client.models.list()] == ["tiny"]


async def test_chat_with_usage(client: openai.AsyncOpenAI):
    answer = await client.chat.completions.create(model="tiny", messages=HELLO, max_tokens=8, temperature=0)
    assert answer.model == "tiny"
    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    # No stand-in answered.
    assert (answer.system_fingerprint or "").startswith("vllm-0.")


async def test_a_stream_is_the_same_answer_in_pieces(client: openai.AsyncOpenAI):
    # Some tokens are parts of a character, so there are fewer pieces than tokens.
    asked: dict[str, Any] = {"model": "tiny", "messages": HELLO, "max_tokens": 40, "temperature": 0}
    asked["extra_body"] = {"ignore_eos": True}
    whole = await client.chat.completions.create(**asked)
    stream = await client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    events = [event async for event in stream]
    pieces = [event.choices[0].delta.content for event in events if event.choices and event.choices[0].delta.content]
    assert "".join(pieces) == whole.choices[0].message.content
    assert len(pieces) > 1
    assert events[-1].usage is not None
    assert whole.usage is not None
    assert events[-1].usage.completion_tokens == whole.usage.completion_tokens == 40


async def test_a_stream_without_usage_shows_none(client: openai.AsyncOpenAI):
    stream = await client.chat.completions.create(model="tiny", messages=HELLO, max_tokens=4, stream=True)
    assert [event.usage async for event in stream if event.usage is not None] == []


async def test_an_unknown_model_is_not_found(client: openai.AsyncOpenAI):
    with pytest.raises(openai.NotFoundError) as refused:
        await client.chat.completions.create(model="no-such-model", messages=HELLO)
    assert refused.value.code == "model_not_found"


async def test_a_wrong_key_is_refused(client: openai.AsyncOpenAI):
    with pytest.raises(openai.AuthenticationError) as refused:
        await client.with_options(api_key="sk-wrong").chat.completions.create(model="tiny", messages=HELLO)
    assert refused.value.status_code == 401
