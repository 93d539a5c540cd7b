"""A real vLLM is started on tiny models of several architectures; the KV size that it logs is the one that was predicted."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from studio_coordinator.model_facts.directory import read_directory
from studio_coordinator.plan.memory.estimate import estimate_vllm
from studio_coordinator.plan.memory.settings import Gpu, Settings
from studio_coordinator.plan.memory.sizes import GIB

SIZE_LINE = re.compile(r"KV cache size: ([\d,]+) tokens.*?Maximum concurrency for [\d,]+ tokens per request: ([\d.]+)x")
START_SECONDS = 240
HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def models(engine_environment: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("architectures")
    command = [engine_environment.with_name("python"), HERE / "tiny_architectures.py", tiny_model, folder]
    subprocess.run(command, check=True, capture_output=True)
    return folder


def logged_size(program: Path, model: Path, flags: list[str], log: Path) -> tuple[int, float]:
    """Tokens and concurrency from the log of a start with 1 GiB of KV cache; the engine is ended as soon as it said so."""
    environment = {
        "PATH": f"{program.parent}:/usr/bin:/bin",
        "HOME": str(log.parent),
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
    }
    command = [program, "serve", model, "--host", "127.0.0.1", "--port", "0", "--enforce-eager", *flags]
    with log.open("wb") as output:
        engine = subprocess.Popen(command, env=environment, stdout=output, stderr=output, start_new_session=True)
    try:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            found = SIZE_LINE.search(log.read_text(errors="replace"))
            if found:
                return int(found.group(1).replace(",", "")), float(found.group(2))
            if engine.poll() is not None:
                break
            time.sleep(0.2)
        raise AssertionError(f"no KV size in the log:\n{log.read_text(errors='replace')[-4000:]}")
    finally:
        # The engine's own session: its workers as well, and nothing else.
        os.killpg(engine.pid, signal.SIGKILL)
        engine.wait()


@pytest.mark.parametrize(
    ("kind", "length", "batch"),
    [
        ("gqa", 1024, None),
        ("tied", 1000, None),
        ("window-hybrid", 2048, 256),
        ("experts", 1024, None),
        ("mla", 1024, None),
        ("state-hybrid", 1024, None),
    ],
)
def test_predicted_kv_size_equals_the_logged_one(
    engine_environment: Path, models: Path, tmp_path: Path, kind: str, length: int, batch: int | None
):
    model = models / kind
    flags = ["--max-model-len", str(length)] + (["--max-num-batched-tokens", str(batch)] if batch else [])
    tokens, concurrency = logged_size(engine_environment, model, flags, tmp_path / "engine.log")
    settings = Settings(
        version="0.32.0+cpu", max_model_len=length, max_num_batched_tokens=batch, kv_cache_bytes=GIB, enforce_eager=True
    )
    answer = estimate_vllm(read_directory(model), settings, Gpu(4 * GIB))
    assert answer.kv_tokens == tokens
    assert answer.max_concurrency == pytest.approx(concurrency, abs=0.005)
