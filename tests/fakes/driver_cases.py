"""Drivers put to work: contexts that are valid by default, and the recipes with their commands that are kept as files."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from google.protobuf.json_format import ParseDict
from studio.v1.assignment_pb2 import Group
from studio.v1.recipe_pb2 import Recipe
from studio_agent.engines import driver_for
from studio_agent.engines.base import LaunchContext, LaunchSpec
from studio_agent.engines.errors import RecipeError
from studio_agent.engines.model_facts import ModelFacts, Task

GIB = 1024**3
PROGRAMS = {
    "vllm": ("/engines/vllm-0.33.0/bin/vllm",),
    "sglang": ("/engines/sglang-0.5.23/bin/sglang",),
    "tabbyapi": ("/opt/tabbyAPI/venv/bin/python",),
    "llamacpp": ("/opt/llama.cpp/bin/llama-server",),
    "demo": ("/venv/bin/python", "-m", "studio_agent.demo_engine"),
}
MODELS = {"vllm": "/models/m", "sglang": "/models/m", "tabbyapi": "/models/m", "llamacpp": "/models/m.gguf", "demo": ""}


def a_context(engine: str, **changes: Any) -> LaunchContext:
    """One GPU, one name, a model on the host."""
    context = LaunchContext(
        program=PROGRAMS[engine],
        host="127.0.0.1",
        port=20001,
        model_path=MODELS[engine],
        model_names=("m",),
        gpu_uuids=("GPU-0",),
        gpu_memory_bytes=0,
        cache_dir=Path("/cache"),
        process_label="chat-1",
    )
    return replace(context, **changes)


def a_recipe(**fields: Any) -> Recipe:
    """The recipe that JSON says."""
    return ParseDict({"name": "m", **fields}, Recipe())


def launch(engine: str, recipe: Recipe, **changes: Any) -> LaunchSpec:
    """What the engine's driver makes of it."""
    return driver_for(engine).launch_spec(recipe, a_context(engine, **changes))


def tried(engine: str, recipe: Recipe, **changes: Any) -> LaunchSpec | str:
    """What the engine's driver makes of it, or the path in the recipe that it refuses."""
    try:
        return launch(engine, recipe, **changes)
    except RecipeError as refused:
        return refused.path


def some_facts(*architectures: str, template: str = "", task: Task = Task.GENERATE) -> ModelFacts:
    """What a model's files might say."""
    return ModelFacts(architectures, template, task)


def kept_case(engine: str, file: Path) -> tuple[LaunchSpec, dict[str, Any]]:
    """The launch spec of a recipe kept in ``file``, and the whole file."""
    case = yaml.safe_load(file.read_text())
    facts = None
    if "architectures" in case:
        task = Task(case.get("task", "generate"))
        facts = some_facts(*case["architectures"], template=case.get("template", ""), task=task)
    spec = launch(
        engine,
        ParseDict(case["recipe"], Recipe()),
        model_path=case["model"],
        model_names=tuple(case["names"]),
        gpu_uuids=tuple(f"GPU-{index}" for index in range(case["gpus"])),
        gpu_memory_bytes=case.get("gpu_memory_gib", 0) * GIB,
        gpu_total_bytes=case.get("gpu_total_gib", 0) * GIB,
        gpu_free_bytes=case.get("gpu_free_gib", 0) * GIB,
        model=facts,
        group=ParseDict(case["group"], Group()) if "group" in case else None,
    )
    return spec, case
