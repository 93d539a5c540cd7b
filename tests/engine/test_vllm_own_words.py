"""What the installed vLLM says of itself: its flags, its parsers, and a model that makes vectors."""

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from fakes.driver_cases import a_context, a_recipe
from fakes.ports import free_port
from studio_agent.engines import driver_for
from studio_agent.engines.base import LaunchSpec
from studio_agent.engines.errors import RecipeError
from studio_agent.engines.flag_list import FlagList, Takes
from studio_agent.engines.inquiry.installed_flags import flags_of
from studio_agent.engines.inquiry.model_directory import facts_at
from studio_agent.engines.model_facts import Task, task_of
from studio_agent.engines.parsers import TABLE
from studio_agent.engines.vllm import OWNED_FLAGS, PLAIN_FLAGS

DRIVER = driver_for("vllm")
START_SECONDS = 300
# The CPU build is one version behind.
ONLY_IN_0_33 = {"step5"}
NAMES = """
import json
from vllm.reasoning import ReasoningParserManager
from vllm.tool_parsers import ToolParserManager
print("NAMES " + json.dumps([ToolParserManager.list_registered(), ReasoningParserManager.list_registered()]))
"""


@pytest.fixture(scope="module")
def own_flags(engine_environment: Path, tmp_path_factory: pytest.TempPathFactory) -> FlagList:
    flags = asyncio.run(flags_of("vllm", (str(engine_environment),), tmp_path_factory.mktemp("flags")))
    assert flags is not None
    return flags


def test_the_installed_engine_lists_its_flags(own_flags: FlagList):
    assert len(own_flags) > 200
    for name, takes in {
        "max-model-len": Takes.VALUE,
        "enable-prefix-caching": Takes.TOGGLE,
        "headless": Takes.SWITCH,
        "lora-modules": Takes.LIST,
    }.items():
        flag = own_flags.get(name)
        assert flag is not None
        assert flag.takes is takes


def test_what_the_driver_says_is_among_them(own_flags: FlagList):
    said = {*PLAIN_FLAGS.values(), "kv-cache-memory-bytes", "gpu-memory-utilization", "tensor-parallel-size", "revision",
            "enable-auto-tool-choice", "tool-call-parser", "reasoning-parser", "speculative-config", "enable-lora",
            "disable-access-log-for-endpoints", "max-model-len"}  # fmt: skip
    assert {name for name in said if own_flags.get(name) is None} == set()
    # A flag that is owned and gone would be a check that checks nothing; these belong to one of the two versions only.
    assert {name for name in OWNED_FLAGS if own_flags.get(name) is None} <= {
        "model-tag",
        "grpc",
        "grpc-port",
        "device-ids",
    }


def test_a_typo_is_answered_with_the_engines_own_flag(own_flags: FlagList):
    context = a_context("vllm", known_flags=own_flags)
    with pytest.raises(RecipeError) as refused:
        DRIVER.launch_spec(a_recipe(extra_args={"max-loras-per-bach": 1, "enable-prefix-cachin": True}), context)
    assert "`enable-prefix-caching`" in refused.value.hint


def test_every_parser_of_the_table_is_registered(engine_environment: Path):
    python = engine_environment.with_name("python")
    shown = subprocess.run([python, "-I", "-c", NAMES], check=True, capture_output=True, text=True).stdout
    line = next(line for line in shown.splitlines() if line.startswith("NAMES "))
    tools, reasoning = json.loads(line.removeprefix("NAMES "))
    assert set(TABLE.names("vllm", "tool")) - set(tools) <= ONLY_IN_0_33
    assert set(TABLE.names("vllm", "reasoning")) - set(reasoning) <= ONLY_IN_0_33


def start(spec: LaunchSpec, log_path: Path) -> subprocess.Popen[bytes]:
    with log_path.open("wb") as log:
        return subprocess.Popen(spec.argv, env=spec.env, stdout=log, stderr=log, start_new_session=True)


@pytest.fixture
async def embedder(
    engine_environment: Path, tiny_model: Path, tmp_path: Path, own_flags: FlagList
) -> AsyncIterator[str]:
    """The tiny model, served as one that makes vectors."""
    recipe = a_recipe(
        args={"max_model_len": {"value": 128}, "enforce_eager": True},
        extra_args={"runner": "pooling", "convert": "embed"},
    )
    assert task_of(recipe, facts_at(str(tiny_model))) is Task.EMBED
    port = free_port()
    context = a_context(
        "vllm", program=(str(engine_environment),), port=port, model_path=str(tiny_model), model_names=("tiny",),
        gpu_uuids=(), cache_dir=tmp_path / "cache", known_flags=own_flags,
    )  # fmt: skip
    spec = DRIVER.launch_spec(recipe, context)
    process = await asyncio.to_thread(start, spec, tmp_path / "engine.log")
    url = f"http://127.0.0.1:{port}"
    try:
        async with aiohttp.ClientSession() as session, asyncio.timeout(START_SECONDS):
            while True:
                assert process.poll() is None, (tmp_path / "engine.log").read_text()[-3000:]
                try:
                    async with session.get(url + DRIVER.ready_path) as answer:
                        if answer.status == 200:
                            break
                except aiohttp.ClientConnectionError:
                    await asyncio.sleep(0.2)
        yield url
    finally:
        os.killpg(process.pid, 9)
        await asyncio.to_thread(process.wait)


async def test_a_model_that_makes_vectors_proves_itself_with_one(embedder: str):
    vector, text = DRIVER.canary("tiny", Task.EMBED), DRIVER.canary("tiny", Task.GENERATE)
    async with aiohttp.ClientSession() as session:
        async with session.post(embedder + vector.path, json=vector.body) as answer:
            assert answer.status == 200
            assert (await answer.json())["data"][0]["embedding"]
        async with session.post(embedder + text.path, json=text.body) as answer:
            assert answer.status in (400, 404)
