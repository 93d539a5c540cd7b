"""The demo engine's command, and that the engine understands it."""

from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict
from hypothesis import given
from hypothesis import strategies as st
from studio.v1.recipe_pb2 import DemoArgs, Recipe
from studio_agent.demo_engine.settings import Settings, parse
from studio_agent.engines import driver_for
from studio_agent.engines.base import LaunchContext, LaunchSpec
from studio_agent.engines.errors import RecipeError

DRIVER = driver_for("demo")
CONTEXT = LaunchContext(
    program=("/venv/bin/python", "-m", "studio_agent.demo_engine"),
    host="127.0.0.1",
    port=20007,
    model_path="",
    model_names=("demo", "alias"),
    gpu_uuids=(),
    gpu_memory_bytes=0,
    cache_dir=Path("/cache"),
    process_label="demo-1",
)


def launch(recipe: Recipe) -> LaunchSpec:
    return DRIVER.launch_spec(recipe, CONTEXT)


def understood(recipe: Recipe) -> Settings:
    return parse(list(launch(recipe).argv[len(CONTEXT.program) :]))


def test_the_smallest_recipe():
    spec = launch(Recipe(name="demo"))
    assert spec.argv[3:] == ("--model", "demo", "alias", "--host", "127.0.0.1", "--port", "20007")
    assert set(spec.env) == {"PATH", "HOME", "LANG", "PYTHONFAULTHANDLER", "STUDIO_DEMO_GPU_MEMORY_DIR"}


def test_arguments_for_real_engines_mean_nothing_to_it():
    recipe = ParseDict({"name": "demo", "args": {"dtype": "bfloat16", "tensor_parallel": {"value": 4}}}, Recipe())
    assert launch(recipe) == launch(Recipe(name="demo"))


def test_adapters_of_the_recipe_are_there_from_the_start():
    settings = understood(ParseDict({"name": "demo", "lora": [{"name": "sql"}, {"name": "law"}]}, Recipe()))
    assert (settings.enable_lora, settings.lora_modules) == (True, ("sql", "law"))


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"extra_args": {"port": 1}}, "extra_args.port"),
        ({"extra_args": {"load-seconds": 1}, "args": {"demo": {"load_seconds": 2}}}, "extra_args.load-seconds"),
        ({"extra_args": {"enable-lora": True}, "lora": [{"name": "sql"}]}, "extra_args.enable-lora"),
        ({"env": {"PATH": "/"}}, "env.PATH"),
    ],
)
def test_what_is_refused(fields: dict[str, Any], path: str):
    with pytest.raises(RecipeError) as refused:
        launch(ParseDict({"name": "demo", **fields}, Recipe()))
    assert refused.value.path == path


SECONDS = st.floats(0, 1000, allow_nan=False)
DEMO_ARGS = st.builds(
    DemoArgs,
    load_seconds=st.none() | SECONDS,
    tokens_per_second=st.none() | SECONDS,
    prefill_seconds=st.none() | SECONDS,
    hang_after_tokens=st.none() | st.integers(0, 1000),
    die_after_tokens=st.none() | st.integers(0, 1000),
    health_lie=st.sampled_from(["", "ok", "failing"]),
    ignore_sigterm=st.none() | st.booleans(),
    leave_child=st.none() | st.booleans(),
    exit_code=st.none() | st.integers(-1, 255),
    exit_after_seconds=st.none() | SECONDS,
    malformed_events=st.none() | st.booleans(),
    gpu_memory_bytes=st.none() | st.integers(0, 2**40),
    fail_line=st.text(st.characters(codec="utf-8", exclude_characters="\0")),
)


@given(DEMO_ARGS)
def test_every_setting_arrives(args: DemoArgs):
    recipe = Recipe(name="demo")
    recipe.args.demo.CopyFrom(args)
    settings = understood(recipe)
    assert settings.model == CONTEXT.model_names
    for field, value in args.ListFields():
        assert getattr(settings, field.name) == value


def test_every_field_of_the_contract_is_a_setting():
    assert {field.name for field in DemoArgs.DESCRIPTOR.fields} <= set(Settings.__annotations__)
