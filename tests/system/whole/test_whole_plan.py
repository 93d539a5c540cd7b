"""What would happen, asked of a whole system whose host has a GPU that is partly somebody else's."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.models import LLAMA_8B
from fakes.nvml import FakeNvml
from fakes.whole_system import System, eventually

GIB = 2**30


@pytest.fixture(scope="module")
def nvml(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeNvml]:
    with FakeNvml(tmp_path_factory.mktemp("nvml")) as fake:
        fake.add_gpu("GPU-shared", name="NVIDIA L40S", memory_total=48 * GIB, memory_used=GIB)
        yield fake


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory, nvml: FakeNvml) -> Iterator[System]:
    system = System(tmp_path_factory.mktemp("home"))
    system.environment |= nvml.env()
    system.start()
    try:
        system.wait_until_up()
        yield system
    finally:
        system.stop()


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("llama")
    (folder / "config.json").write_text(json.dumps(LLAMA_8B))
    file = tmp_path_factory.mktemp("manifest") / "recipe.yaml"
    file.write_text(
        f"""
kind: Recipe
name: llama
engine: {{name: vllm, path: {sys.executable}}}
model: {{source: "path://{folder}"}}
args: {{max_model_len: 4096, tensor_parallel: auto}}
env: {{HF_TOKEN: hf_secret}}
"""
    )
    return str(file)


def test_a_plan_shows_place_memory_and_command(system: System, manifest: str) -> None:
    told = system.studio("plan", "-f", manifest).stdout
    first, *rest = told.splitlines()
    assert "llama-1 → " in first
    assert "GPU-shared" in first
    memory = next(line for line in rest if line.startswith("  memory"))
    # As many bytes as the configuration says, in bfloat16.
    assert "weights 14.9" in memory
    command = next(line for line in rest if line.startswith("  command"))
    assert f"{sys.executable} serve" in command
    assert "--max-model-len=4096" in command.replace("--max-model-len 4096", "--max-model-len=4096")
    assert "hf_secret" not in told
    assert system.listed("recipes") == [
        recipe for recipe in system.listed("recipes") if recipe["recipe_name"] != "llama"
    ]


def test_a_stranger_on_the_gpu_is_named_with_his_process(system: System, nvml: FakeNvml, manifest: str) -> None:
    nvml.set_all({"gpu.0.processes": f"{os.getpid()}:{40 * GIB}", "gpu.0.memory.used": 41 * GIB})
    try:
        told = eventually(lambda: _with(system.studio("plan", "-f", manifest).stdout, f"pid {os.getpid()}"))
        assert "llama-1 waits: no host fits: wants 1 GPU of ≥ " in told
        assert "8.0 GiB free" in told
        assert "holds 40.0 GiB" in told
    finally:
        nvml.set_all({"gpu.0.processes": "", "gpu.0.memory.used": GIB})


def test_the_estimate_of_a_stored_recipe_has_each_part_with_its_source(system: System, manifest: str) -> None:
    system.studio("apply", "-f", manifest)
    told = system.studio("estimate", "llama").stdout
    assert [line.split()[0] for line in told.splitlines()[1:7]] == [
        "context",
        "weights",
        "buffers",
        "activation",
        "graphs",
        "kv",
    ]
    weights = json.loads(system.studio("estimate", "llama", "-o", "json").stdout)["parts"][1]
    assert weights["source"] == "formula"
    assert 14 * GIB < int(weights["bytes"]) < 16 * GIB


def test_a_directory_is_estimated_without_a_coordinator(system: System, manifest: str) -> None:
    folder = Path(manifest).read_text().partition("path://")[2].partition('"')[0]
    options = ["--gpu-memory-gib", "48", "--max-model-len", "4096", "-o", "json"]
    answer = json.loads(system.studio("estimate", "--model", folder, *options).stdout)
    assert answer["weights_gib"] == pytest.approx(14.96, rel=0.01)


def test_nothing_is_worth_moving_on_one_host(system: System) -> None:
    said = system.studio("rebalance", "--dry-run")
    assert "no move would free a host or heal spread" in said.stdout + said.stderr


def _with(text: str, part: str) -> str:
    return text if part in text else ""
