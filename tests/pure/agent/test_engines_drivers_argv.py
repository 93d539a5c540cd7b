"""Commands of SGLang, TabbyAPI, llama.cpp and the demo engine, a file for each; and what no recipe can do to any driver."""

from pathlib import Path, PurePath
from typing import Any

import pytest
import yaml
from fakes.driver_cases import MODELS, PROGRAMS, a_recipe, kept_case, launch, some_facts, tried
from hypothesis import given
from hypothesis import strategies as st
from studio.v1.recipe_pb2 import Recipe
from studio_agent.engines import driver_for, llamacpp, sglang, tabbyapi
from studio_agent.engines.base import LaunchSpec
from studio_agent.engines.errors import RecipeError
from studio_agent.engines.model_facts import Task
from studio_coordinator.manifest import environment

HERE = Path(__file__).parent
KEPT = ("sglang", "tabbyapi", "llamacpp", "demo")
CASES = [(engine, file) for engine in KEPT for file in sorted((HERE / f"{engine}_recipes").glob("*.yaml"))]
ENGINES = tuple(PROGRAMS)


@pytest.mark.parametrize(("engine", "file"), CASES, ids=[f"{engine}-{file.stem}" for engine, file in CASES])
def test_the_command_of_a_recipe(engine: str, file: Path):
    spec, case = kept_case(engine, file)
    assert list(spec.argv) == [*PROGRAMS[engine], *case["argv"]]
    assert {str(path): yaml.safe_load(content) for path, content in spec.files.items()} == case.get("file", {})
    for name, value in case.get("env", {}).items():
        assert spec.env[name] == value


@pytest.mark.parametrize("engine", KEPT)
def test_there_are_a_dozen_recipes_for_each(engine: str):
    assert sum(named == engine for named, _ in CASES) >= 12


@pytest.mark.parametrize("engine", ENGINES)
def test_the_environment_starts_from_empty_and_holds_the_devices(engine: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SECRET_OF_THE_AGENT", "1")
    env = launch(engine, Recipe(name="m"), gpu_uuids=("GPU-a", "GPU-b")).env
    assert "SECRET_OF_THE_AGENT" not in env
    assert env["CUDA_VISIBLE_DEVICES"] == "GPU-a,GPU-b"
    assert env["HOME"] == "/cache/home"
    amd = launch(engine, Recipe(name="m"), gpu_uuids=("GPU-a",), gpu_vendor="amd").env
    assert amd["HIP_VISIBLE_DEVICES"] == "GPU-a"
    assert "CUDA_VISIBLE_DEVICES" not in amd


@pytest.mark.parametrize(
    ("engine", "flag"),
    [
        *(("sglang", flag) for flag in sglang.OWNED_FLAGS),
        *(("llamacpp", flag) for flag in llamacpp.OWNED_FLAGS),
        *(("tabbyapi", key) for key in tabbyapi.OWNED_KEYS),
    ],
)
def test_what_is_the_agents_is_refused(engine: str, flag: str):
    with pytest.raises(RecipeError) as refused:
        launch(engine, a_recipe(extra_args={flag: "x"}))
    assert refused.value.path == f"extra_args.{flag}"
    assert "is set by the agent" in refused.value.message


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "name", ["TABBY_NETWORK_HOST", "LLAMA_ARG_TOOLS", "LLAMA_API_KEY", "LD_PRELOAD", "HIP_VISIBLE_DEVICES", "HOME"]
)
def test_variables_that_reach_around_the_checks_are_refused(engine: str, name: str):
    with pytest.raises(RecipeError) as refused:
        launch(engine, a_recipe(env={name: "x"}))
    assert refused.value.path == f"env.{name}"


@pytest.mark.parametrize("engine", ENGINES)
def test_what_the_coordinator_refuses_the_agent_refuses_too(engine: str):
    for pattern in environment.DENIED:
        name = pattern.replace("*", "X")
        assert tried(engine, Recipe(name="m", env={name: "1"})) == f"env.{name}", pattern


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", ["my-api-key", "hf-token", "db-password"])
def test_a_secret_is_refused_on_a_command_line(engine: str, name: str):
    with pytest.raises(RecipeError) as refused:
        launch(engine, a_recipe(extra_args={name: "x"}))
    assert refused.value.path == f"extra_args.{name}"


@pytest.mark.parametrize(
    ("engine", "fields", "changes", "path"),
    [
        ("sglang", {}, {"model_path": ""}, "model.source"),
        ("sglang", {}, {"model_path": "--config"}, "model.source"),
        ("sglang", {"args": {"demo": {"load_seconds": 1}}}, {}, "args.demo"),
        ("sglang", {"args": {"kv_cache_memory_bytes": 1}}, {}, "args.kv_cache_memory_bytes"),
        ("sglang", {"args": {"chunked_prefill": False, "max_num_batched_tokens": 1}}, {}, "args.max_num_batched_tokens"),
        ("sglang", {"args": {"speculative": {"method": "psychic"}}}, {}, "args.speculative.method"),
        ("sglang", {"args": {"speculative": {"method": "eagle", "draft_tensor_parallel_size": 1}}}, {},
         "args.speculative.draft_tensor_parallel_size"),
        ("sglang", {"args": {"prefix_caching": True}, "extra_args": {"disable-radix-cache": True}}, {},
         "extra_args.disable-radix-cache"),
        ("sglang", {"args": {"tensor_parallel": {"value": 2}}}, {}, "args.tensor_parallel"),
        ("sglang", {}, {"gpu_memory_bytes": 2**30, "gpu_free_bytes": 80 * 2**30}, "resources.gpu.memory"),
        ("tabbyapi", {}, {"model_path": "Qwen/Qwen3-8B"}, "model.source"),
        ("tabbyapi", {"lora": [{"name": "a", "source": "path:///l/a"}]}, {}, "lora"),
        ("tabbyapi", {"args": {"dtype": "half"}}, {}, "args.dtype"),
        ("tabbyapi", {"args": {"prefix_caching": False}}, {}, "args.prefix_caching"),
        ("tabbyapi", {"args": {"trust_remote_code": True}}, {}, "args.trust_remote_code"),
        ("tabbyapi", {"args": {"kv_cache_dtype": "9,9"}}, {}, "args.kv_cache_dtype"),
        ("tabbyapi", {"args": {"reasoning_parser": "deepseek_r1"}}, {}, "args.reasoning_parser"),
        ("tabbyapi", {"args": {"tensor_parallel": {"value": 2}}}, {"gpu_uuids": ("a", "b", "c")}, "args.tensor_parallel"),
        ("tabbyapi", {"args": {"speculative": {"method": "draft_model", "model": "a/b"}}}, {}, "args.speculative.model"),
        ("tabbyapi", {"extra_args": {"cach-size": 4096}}, {}, "extra_args.cach-size"),
        ("tabbyapi", {"extra_args": {"vision": "yes"}}, {}, "extra_args.vision"),
        ("tabbyapi", {"extra_args": {"gpu-split": 20}}, {}, "extra_args.gpu-split"),
        ("tabbyapi", {"extra_args": {"cache-size": [1]}}, {}, "extra_args.cache-size"),
        ("tabbyapi", {"extra_args": {"cache-size": None}}, {}, "extra_args.cache-size"),
        ("llamacpp", {}, {"model_path": "/models/directory"}, "model.source"),
        ("llamacpp", {}, {"model_path": ""}, "model.source"),
        ("llamacpp", {}, {"model_names": ("a,b",)}, "model_names"),
        ("llamacpp", {"args": {"quantization": "fp8"}}, {}, "args.quantization"),
        ("llamacpp", {"args": {"tool_parser": "hermes"}}, {}, "args.tool_parser"),
        ("llamacpp", {"args": {"reasoning_parser": "qwen3"}}, {}, "args.reasoning_parser"),
        ("llamacpp", {"args": {"kv_cache_dtype": "q3"}}, {}, "args.kv_cache_dtype"),
        ("llamacpp", {"args": {"tensor_parallel": {"value": 2}}}, {"gpu_uuids": ("a", "b", "c")}, "args.tensor_parallel"),
        ("llamacpp", {"args": {"speculative": {"method": "eagle"}}}, {}, "args.speculative.method"),
        ("llamacpp", {"lora": [{"name": "a", "source": "path:///l/a,b"}]}, {}, "lora"),
        ("llamacpp", {"extra_args": {"mlock": "--host"}}, {}, "extra_args.mlock"),
        ("llamacpp", {"extra_args": {"samplers": ["a", "b"]}}, {}, "extra_args.samplers"),
        ("vllm", {"args": {"tool_parser": "auto"}}, {}, "args.tool_parser"),
    ],
)  # fmt: skip
def test_recipes_that_are_refused(engine: str, fields: dict[str, Any], changes: dict[str, Any], path: str):
    with pytest.raises(RecipeError) as refused:
        launch(engine, a_recipe(**fields), **changes)
    assert refused.value.path == path


def test_a_misspelt_key_is_answered_with_what_is_close():
    with pytest.raises(RecipeError) as refused:
        launch("tabbyapi", a_recipe(extra_args={"cach-size": 4096}))
    assert refused.value.hint.startswith("Did you mean `cache-size`")


def test_a_wrapper_of_tabbyapi_gets_the_arguments_as_they_are():
    spec = launch("tabbyapi", Recipe(name="m"), program=("/usr/local/bin/tabby",))
    assert spec.argv == ("/usr/local/bin/tabby", "--config", "/cache/launch/chat-1/config.yml")


def test_the_files_of_a_replica_are_its_own():
    (path,) = launch("tabbyapi", Recipe(name="m"), process_label="chat-2").files
    assert path == PurePath("/cache/launch/chat-2/config.yml")


def test_an_embedding_model_is_no_language_model_to_tabbyapi():
    facts = some_facts("BertModel", task=Task.EMBED)
    (content,) = launch("tabbyapi", Recipe(name="m"), model=facts).files.values()
    assert set(yaml.safe_load(content)) == {"embeddings", "network"}


ANY_TEXT = st.text(st.characters(codec="utf-8"))


def file_of(spec: LaunchSpec) -> dict[str, Any]:
    (content,) = spec.files.values()
    return yaml.safe_load(content)


@given(st.sampled_from(ENGINES), ANY_TEXT)
def test_any_text_in_extra_args_arrives_whole_or_is_refused(engine: str, text: str):
    key = "reasoning-budget-message" if engine == "tabbyapi" else "some-flag"
    recipe = Recipe(name="m")
    recipe.extra_args[key].string_value = text
    spec, without = tried(engine, recipe), launch(engine, Recipe(name="m"))
    if isinstance(spec, str):
        assert spec == f"extra_args.{key}"
        assert "\0" in text or (engine == "llamacpp" and text.startswith("-"))
    elif engine == "tabbyapi":
        assert spec.argv == without.argv
        assert file_of(spec)["model"]["reasoning_budget_message"] == text
    else:
        joined = (f"--some-flag={text}",) if text.startswith("-") else ("--some-flag", text)
        assert spec.argv == (*without.argv, *joined)


@given(st.sampled_from([name for name in ENGINES if name != "demo"]), ANY_TEXT)
def test_any_model_arrives_whole_or_is_refused(engine: str, text: str):
    spec, usual = tried(engine, Recipe(name="m"), model_path=text), launch(engine, Recipe(name="m"))
    if isinstance(spec, str):
        assert spec == "model.source"
    elif engine == "tabbyapi":
        model = file_of(spec)["model"]
        assert PurePath(model["model_dir"]) / model["model_name"] == PurePath(text)
    else:
        assert text in spec.argv
        assert "\0" not in text
        own = {text, "--hf-repo", MODELS[engine], "--model", "--offline"}
        assert [word for word in spec.argv if word not in own] == [word for word in usual.argv if word not in own]


@given(st.sampled_from(ENGINES), ANY_TEXT)
def test_any_name_of_the_model_arrives_whole_or_is_refused(engine: str, text: str):
    spec = tried(engine, Recipe(name="m"), model_names=(text,))
    if isinstance(spec, str):
        assert spec == "model_names"
    elif engine == "tabbyapi":
        assert file_of(spec)["model"]["dummy_model_names"] == [text]
    else:
        assert "\0" not in text
        assert text in spec.argv or f"--served-model-name={text}" in spec.argv


@given(st.sampled_from(ENGINES), ANY_TEXT, ANY_TEXT)
def test_any_variable_arrives_whole_or_is_refused(engine: str, name: str, value: str):
    spec = tried(engine, Recipe(name="m", env={name: value}))
    if isinstance(spec, str):
        assert spec == f"env.{name}"
    else:
        assert spec.env[name] == value
        assert "\0" not in value


@given(st.sampled_from(["vllm", "sglang", "llamacpp"]), ANY_TEXT.filter(bool))
def test_any_chat_template_arrives_whole_or_is_refused(engine: str, text: str):
    spec = tried(engine, a_recipe(args={"chat_template": text}))
    if isinstance(spec, str):
        assert spec == "args.chat_template"
        assert "\0" in text
    else:
        assert text in spec.argv or f"--chat-template={text}" in spec.argv


@pytest.mark.parametrize("engine", ENGINES)
def test_every_driver_is_found_by_its_name(engine: str):
    assert driver_for(engine).name == engine
