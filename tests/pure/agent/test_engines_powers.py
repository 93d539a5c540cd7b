"""What only some engines can do, the smallest request of each, and the command as it is shown."""

from typing import Any

import pytest
from fakes.driver_cases import PROGRAMS, a_context, a_recipe, launch
from studio.v1.recipe_pb2 import LoraAdapter
from studio_agent.engines import driver_for
from studio_agent.engines.base import CanLoadLora, CanSleep, CanSpan, HttpRequest
from studio_agent.engines.errors import RecipeError, UnknownEngineError
from studio_agent.engines.model_facts import Task
from studio_agent.engines.preview import MASK, preview

ADAPTER = LoraAdapter(name="sql", source="path:///loras/sql")


@pytest.mark.parametrize(
    ("engine", "sleeps", "loads", "spans"),
    [
        ("vllm", True, True, True),
        ("sglang", True, True, True),
        ("tabbyapi", False, False, False),
        ("llamacpp", False, False, False),
        ("demo", True, True, True),
    ],
)
def test_who_can_do_what(engine: str, sleeps: bool, loads: bool, spans: bool):
    driver = driver_for(engine)
    powers = (isinstance(driver, CanSleep), isinstance(driver, CanLoadLora), isinstance(driver, CanSpan))
    assert powers == (sleeps, loads, spans)


def test_vllm_wakes_without_weights_in_the_only_order_that_works():
    driver = driver_for("vllm")
    assert isinstance(driver, CanSleep)
    assert [request.path for request in driver.sleep(keep_weights=True)] == ["/sleep?level=1"]
    assert [request.path for request in driver.sleep(keep_weights=False)] == ["/sleep?level=2"]
    assert [request.path for request in driver.wake("/models/m", kept_weights=True)] == ["/wake_up"]
    assert [request.path for request in driver.wake("/models/m", kept_weights=False)] == [
        "/wake_up?tags=weights", "/collective_rpc", "/wake_up?tags=kv_cache", "/reset_prefix_cache",
    ]  # fmt: skip


def test_sglang_reads_its_weights_again_where_it_did_not_keep_them():
    driver = driver_for("sglang")
    assert isinstance(driver, CanSleep)
    assert [request.path for request in driver.wake("/models/m", kept_weights=True)] == ["/resume_memory_occupation"]
    assert driver.wake("/models/m", kept_weights=False)[-1] == HttpRequest(
        "POST", "/update_weights_from_disk", {"model_path": "/models/m"}
    )


@pytest.mark.parametrize(
    ("engine", "load", "unload"),
    [
        ("vllm", "/v1/load_lora_adapter", "/v1/unload_lora_adapter"),
        ("sglang", "/load_lora_adapter", "/unload_lora_adapter"),
        ("demo", "/v1/load_lora_adapter", "/v1/unload_lora_adapter"),
    ],
)
def test_an_adapter_is_loaded_and_dropped_by_name(engine: str, load: str, unload: str):
    driver = driver_for(engine)
    assert isinstance(driver, CanLoadLora)
    assert driver.load_lora(ADAPTER, "/loras/sql") == HttpRequest(
        "POST", load, {"lora_name": "sql", "lora_path": "/loras/sql"}
    )
    assert driver.unload_lora("sql") == HttpRequest("POST", unload, {"lora_name": "sql"})


@pytest.mark.parametrize("engine", ["vllm", "sglang", "demo"])
@pytest.mark.parametrize(
    ("fields", "takes"),
    [
        ({}, False),
        ({"extra_args": {"enable-lora": False}}, False),
        ({"extra_args": {"enable-lora": True}}, True),
        ({"lora": [{"name": "a", "source": "path:///l"}]}, True),
    ],
)
def test_adapters_are_taken_at_run_time_where_the_recipe_says_so(engine: str, fields: dict[str, Any], takes: bool):
    driver, recipe = driver_for(engine), a_recipe(**fields)
    assert isinstance(driver, CanLoadLora)
    before = recipe.SerializeToString(deterministic=True)
    assert driver.takes_lora(recipe) is takes
    assert recipe.SerializeToString(deterministic=True) == before
    spec = launch(engine, recipe)
    assert ("--enable-lora" in spec.argv) is takes
    assert ("VLLM_ALLOW_RUNTIME_LORA_UPDATING" in spec.env) is (takes and engine == "vllm")


@pytest.mark.parametrize("engine", PROGRAMS)
@pytest.mark.parametrize(
    ("task", "path"),
    [(Task.GENERATE, "/v1/completions"), (Task.EMBED, "/v1/embeddings"), (Task.RERANK, "/v1/rerank")],
)
def test_the_smallest_request_is_of_the_models_task(engine: str, task: Task, path: str):
    request = driver_for(engine).canary("m", task)
    assert (request.method, request.path) == ("POST", path)
    assert request.body is not None
    assert request.body["model"] == "m"


@pytest.mark.parametrize(
    ("engine", "finishes", "limit", "tells"),
    [
        ("vllm", False, 0.0, True),
        ("sglang", True, None, True),
        ("tabbyapi", True, None, False),
        ("llamacpp", False, 0.0, True),
        ("demo", True, 5.0, True),
    ],
)
def test_what_a_stop_means_to_running_requests(engine: str, finishes: bool, limit: float | None, tells: bool):
    drain = driver_for(engine).drain
    assert (drain.finishes_requests, drain.limit_seconds, drain.tells_running) == (finishes, limit, tells)


@pytest.mark.parametrize("name", ["HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "API_KEY", "MY_KEY", "DB_PASSWORD"])
def test_a_preview_is_the_command_with_secrets_masked(name: str):
    recipe = a_recipe(engine={"name": "vllm"}, env={name: "hush", "VLLM_LOGGING_LEVEL": "DEBUG"})
    shown, real = preview(recipe, a_context("vllm")), launch("vllm", recipe)
    assert shown.argv == real.argv
    assert shown.env == {**real.env, name: MASK}
    assert "hush" not in repr(shown)


def test_a_preview_refuses_what_the_start_would():
    with pytest.raises(RecipeError):
        preview(a_recipe(engine={"name": "vllm"}, extra_args={"port": 1}), a_context("vllm"))
    with pytest.raises(UnknownEngineError):
        preview(a_recipe(engine={"name": "vlm"}), a_context("vllm"))
