"""vLLM's command for realistic recipes: one file in `vllm_recipes` each, and what no recipe can do."""

import string
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf.json_format import ParseDict
from hypothesis import given
from hypothesis import strategies as st
from studio.v1.assignment_pb2 import Group
from studio.v1.recipe_pb2 import Recipe
from studio_agent.engines import driver_for
from studio_agent.engines.base import LaunchContext, LaunchSpec
from studio_agent.engines.errors import RecipeError, UnknownEngineError
from studio_agent.engines.flag_list import Flag, FlagList, Takes
from studio_agent.engines.flags import SECRET
from studio_agent.engines.vllm import OWNED_FLAGS
from studio_coordinator.manifest.flag_classes import why_admin_only

RECIPES = sorted((Path(__file__).parent / "vllm_recipes").glob("*.yaml"))
GIB = 1024**3
DRIVER = driver_for("vllm")
ALWAYS = ["--host", "127.0.0.1", "--port", "20001", "--disable-access-log-for-endpoints", "/health,/metrics"]
NO_MEDIA = ["--allowed-media-domains", "no-domain-is-allowed.invalid"]


def a_context(**changes: Any) -> LaunchContext:
    fields: dict[str, Any] = {
        "program": ("/engines/vllm-0.33.0/bin/vllm",),
        "host": "127.0.0.1",
        "port": 20001,
        "model_path": "/models/m",
        "model_names": ("m",),
        "gpu_uuids": ("GPU-0",),
        "gpu_memory_bytes": 0,
        "cache_dir": Path("/cache"),
        "process_label": "chat-1",
    }
    return LaunchContext(**{**fields, **changes})


def a_recipe(**fields: Any) -> Recipe:
    return ParseDict({"name": "m", **fields}, Recipe())


def launch(recipe: Recipe, **changes: Any) -> LaunchSpec:
    return DRIVER.launch_spec(recipe, a_context(**changes))


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.stem)
def test_the_command_of_a_recipe(file: Path):
    case = yaml.safe_load(file.read_text())
    spec = launch(
        ParseDict(case["recipe"], Recipe()),
        model_path=case["model"],
        model_names=tuple(case["names"]),
        gpu_uuids=tuple(f"GPU-{index}" for index in range(case["gpus"])),
        gpu_memory_bytes=case.get("gpu_memory_gib", 0) * GIB,
        gpu_total_bytes=case.get("gpu_total_gib", 0) * GIB,
        group=ParseDict(case["group"], Group()) if "group" in case else None,
    )
    head = ["/engines/vllm-0.33.0/bin/vllm", "serve", case["model"], "--served-model-name", *case["names"]]
    head += [*ALWAYS, *NO_MEDIA] if case.get("serves", True) else []
    assert list(spec.argv) == [*head, *case["argv"]]
    for name, value in case.get("env", {}).items():
        assert spec.env[name] == value


def test_the_environment_starts_from_empty(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SECRET_OF_THE_AGENT", "1")
    assert launch(a_recipe()).env == {
        "PATH": "/engines/vllm-0.33.0/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/cache/home",
        "LANG": "C.UTF-8",
        "PYTHONFAULTHANDLER": "1",
        "CUDA_VISIBLE_DEVICES": "GPU-0",
        "HF_HOME": "/cache/huggingface",
        "HF_HUB_OFFLINE": "1",
        "VLLM_CACHE_ROOT": "/cache/vllm",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_MEDIA_URL_ALLOW_REDIRECTS": "0",
        "VLLM_MAX_N_SEQUENCES": "128",
        "DO_NOT_TRACK": "1",
        "VLLM_WORKER_SHUTDOWN_TIMEOUT_SECONDS": "15",
        "VLLM_PROCESS_NAME_PREFIX": "chat-1",
    }


def test_how_many_answers_one_request_may_ask_for_is_the_recipes_to_raise():
    assert launch(a_recipe(env={"VLLM_MAX_N_SEQUENCES": "512"})).env["VLLM_MAX_N_SEQUENCES"] == "512"


@pytest.mark.parametrize(
    ("allowed", "argv"),
    [
        (None, NO_MEDIA),
        (["pictures.example"], ["--allowed-media-domains", "pictures.example"]),
        ("pictures.example", ["--allowed-media-domains", "pictures.example"]),
        ("*", []),
    ],
)
def test_media_are_fetched_from_nowhere_unless_the_recipe_says_from_where(allowed: Any, argv: list[str]):
    extra = {} if allowed is None else {"allowed-media-domains": allowed}
    made = list(launch(a_recipe(extra_args=extra)).argv)
    assert made[made.index("/health,/metrics") + 1 :] == argv
    # What is an administrator's to say: the coordinator's own rule.
    assert why_admin_only("allowed-media-domains")


def test_a_program_that_knows_no_media_domains_is_not_told():
    known = FlagList([Flag(("seed",), Takes.VALUE)])
    assert "--allowed-media-domains" not in launch(a_recipe(), known_flags=known).argv


@pytest.mark.parametrize("flag", OWNED_FLAGS)
def test_flags_of_the_agent_are_refused(flag: str):
    with pytest.raises(RecipeError) as refused:
        launch(a_recipe(extra_args={flag: "x"}))
    assert refused.value.path == f"extra_args.{flag}"
    assert "is set by the agent" in refused.value.message


@pytest.mark.parametrize(
    ("extra_args", "said"),
    [
        ({"hos": "0.0.0.0"}, "is short for --host"),
        ({"disable-ssl-refresh": True}, "is set by the agent"),
        ({"no-enforce-eager": True}, "say `enforce-eager: false`"),
        ({"Host": "x"}, "lower-case"),
        ({"a.b": "x"}, "lower-case"),
        ({"-port": "x"}, "lower-case"),
        ({"block_size": 1}, "lower-case"),
        ({"seed": None}, "null says nothing"),
        ({"lora-modules": []}, "at least one value"),
        ({"lora-modules": ["--port=1"]}, "none that begins with a dash"),
        ({"quantization": "fp8\0"}, "NUL"),
        ({"dtype": "half"}, "is set in `args` already"),
        ({"disable-prefix-caching": True}, "is set in `args` already"),
    ],
)
def test_extra_args_that_are_refused(extra_args: dict[str, Any], said: str):
    recipe = a_recipe(args={"dtype": "half", "prefix_caching": True}, extra_args=extra_args)
    with pytest.raises(RecipeError, match=said) as refused:
        launch(recipe)
    assert refused.value.path == f"extra_args.{next(iter(extra_args))}"


@pytest.mark.parametrize(
    "name",
    [
        "LD_PRELOAD", "PYTHONPATH", "PATH", "https_proxy", "ALL_PROXY", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES",
        "VLLM_SERVER_DEV_MODE", "VLLM_ALLOW_RUNTIME_LORA_UPDATING", "HF_ENDPOINT", "VLLM_PLUGINS", "CUDA_INJECTION64_PATH",
        "NCCL_NET_PLUGIN", "HOME", "HF_HOME", "VLLM_CACHE_ROOT", "STUDIO_REPLICA", "A=B", "", "1A",
    ],
)  # fmt: skip
def test_variables_that_are_refused(name: str):
    with pytest.raises(RecipeError) as refused:
        launch(a_recipe(env={name: "x"}))
    assert refused.value.path == f"env.{name}"


@pytest.mark.parametrize(
    ("fields", "changes", "path"),
    [
        ({}, {"model_path": ""}, "model.source"),
        ({}, {"model_path": "--config=/etc/passwd"}, "model.source"),
        ({"args": {"demo": {"load_seconds": 1}}}, {}, "args.demo"),
        ({"args": {"sleep_mode": True}}, {"gpu_uuids": ()}, "args.sleep_mode"),
        ({"args": {"tensor_parallel": {"value": 2}}}, {}, "args.tensor_parallel"),
        ({"args": {"pipeline_parallel": 2}}, {"gpu_uuids": ("a", "b", "c")}, "args.tensor_parallel"),
        ({}, {"model_names": ("--uds=/tmp/x",)}, "model_names"),
    ],
)
def test_recipes_that_are_refused(fields: dict[str, Any], changes: dict[str, Any], path: str):
    with pytest.raises(RecipeError) as refused:
        launch(a_recipe(**fields), **changes)
    assert refused.value.path == path


def test_an_unknown_engine_is_told_the_known_ones():
    with pytest.raises(UnknownEngineError) as refused:
        driver_for("vlm")
    assert "vllm" in refused.value.hint


ANY_TEXT = st.text(st.characters(codec="utf-8"))
FLAG_NAME = st.text(string.ascii_lowercase + string.digits + "-", min_size=1).filter(lambda name: name[0] != "-")


@given(ANY_TEXT)
def test_any_text_in_extra_args_is_one_word_or_refused(text: str):
    recipe = Recipe(name="m")
    recipe.extra_args["some-flag"].string_value = text
    try:
        tail = launch(recipe).argv[len(launch(Recipe(name="m")).argv) :]
    except RecipeError:
        assert "\0" in text
    else:
        assert tail == (("--some-flag=" + text,) if text.startswith("-") else ("--some-flag", text))


@given(FLAG_NAME)
def test_any_name_in_extra_args_is_that_flag_or_refused(name: str):
    recipe = Recipe(name="m")
    recipe.extra_args[name].bool_value = True
    try:
        argv = launch(recipe).argv
    except RecipeError:
        is_owned = any(owned.startswith(name) or name in owned for owned in OWNED_FLAGS)
        assert name.startswith("no-") or SECRET.search(name) or is_owned
    else:
        assert argv[-1] == f"--{name}"


@given(ANY_TEXT)
def test_any_model_is_one_word_or_refused(text: str):
    try:
        argv = launch(Recipe(name="m"), model_path=text).argv
    except RecipeError:
        assert not text or text.startswith("-") or "\0" in text
    else:
        assert argv[2] == text
        assert argv[3] == "--served-model-name"


@given(ANY_TEXT, ANY_TEXT)
def test_any_variable_arrives_unchanged_or_is_refused(name: str, value: str):
    recipe = Recipe(name="m", env={name: value})
    refused = ""
    env: dict[str, str] = {}
    try:
        env = launch(recipe).env
    except RecipeError as error:
        refused = error.path
    if refused:
        assert refused == f"env.{name}"
    else:
        assert env[name] == value
        assert name.isidentifier()
        assert "\0" not in value
