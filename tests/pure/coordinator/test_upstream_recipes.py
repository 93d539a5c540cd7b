"""Recipes of the upstream vLLM Studio: every field is accounted for, and what comes out can be applied."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from studio.v1.admin_service_pb2 import ConvertedField
from studio.v1.recipe_pb2 import Recipe
from studio_coordinator.manifest import Converted, Parsed, convert, parse
from studio_coordinator.manifest.upstream.fields import FIELDS

COMMIT = "0123456789abcdef0123456789abcdef01234567"
# All of upstream's first-class fields, with the values that it gives them where nothing is said.
WHOLE: dict[str, Any] = {
    "id": "qwen3-32b",
    "name": "Qwen 3",
    "model_path": "Qwen/Qwen3-32B",
    "backend": "vllm",
    "env_vars": None,
    "tensor_parallel_size": 1,
    "pipeline_parallel_size": 1,
    "max_model_len": 32768,
    "gpu_memory_utilization": 0.9,
    "kv_cache_dtype": "auto",
    "max_num_seqs": 256,
    "trust_remote_code": True,
    "tool_call_parser": None,
    "reasoning_parser": None,
    "enable_auto_tool_choice": False,
    "quantization": None,
    "dtype": None,
    "host": "0.0.0.0",
    "port": 8000,
    "served_model_name": None,
    "python_path": None,
    "extra_args": {},
    "max_thinking_tokens": None,
    "thinking_mode": "conservative",
}


def converted(**fields: Any) -> Converted:
    return convert(json.dumps(WHOLE | fields))


def read(result: Converted) -> Parsed:
    parsed = parse(result.manifest)
    assert not parsed.problems
    return parsed


def recipe_of(**fields: Any) -> Recipe:
    (recipe,) = read(converted(**fields)).recipes
    return recipe


def told(result: Converted, field: str) -> tuple[str, str, str]:
    (entry,) = [entry for entry in result.report if entry.field == field]
    return ConvertedField.Outcome.Name(entry.outcome).removeprefix("OUTCOME_"), entry.became, entry.note


def test_every_first_class_field_is_told_of():
    result = converted()
    silent = {"served_model_name", "extra_args"}
    assert {entry.field for entry in result.report} == set(WHOLE) - silent
    assert all(entry.outcome for entry in result.report)
    assert set(FIELDS) >= set(WHOLE) - {"id", "extra_args"}


def test_a_whole_recipe_in_our_words():
    recipe = recipe_of(
        tensor_parallel_size=4,
        pipeline_parallel_size=2,
        kv_cache_dtype="fp8",
        quantization="awq",
        dtype="bfloat16",
        tool_call_parser="hermes",
        env_vars={"A": 1, "B": "x"},
        extra_args={"seed": 7, "enable_prefix_caching": True, "load_format": "dummy", "description": "old"},
    )
    assert (recipe.name, recipe.model.source, recipe.engine.name) == ("qwen3-32b", "hf://Qwen/Qwen3-32B", "vllm")
    args = recipe.args
    assert (args.max_model_len.value, args.tensor_parallel.value, args.pipeline_parallel) == (32768, 4, 2)
    assert (args.kv_cache_dtype, args.quantization, args.dtype, args.max_num_seqs) == ("fp8", "awq", "bfloat16", 256)
    assert (args.tool_parser, args.reasoning_parser) == ("hermes", "auto")
    assert (args.seed, args.prefix_caching, args.load_format) == (7, True, "dummy")
    assert dict(recipe.env) == {"A": "1", "B": "x"}
    assert not recipe.extra_args


def test_false_is_off_and_the_report_says_that_it_was_on():
    result = converted(extra_args={"enable_prefix_caching": False, "some_switch": False, "no_other": False})
    (recipe,) = read(result).recipes
    assert recipe.args.HasField("prefix_caching")
    assert not recipe.args.prefix_caching
    assert recipe.extra_args["some-switch"].bool_value is False
    for field in ("extra_args.enable_prefix_caching", "extra_args.some_switch"):
        outcome, _, note = told(result, field)
        assert outcome == "CHANGED"
        assert "turned it on" in note
    assert told(result, "extra_args.no_other")[:2] == ("CHANGED", "extra_args.other")
    assert recipe.extra_args["other"].bool_value is True
    off = converted(extra_args={"no_other": True})
    assert told(off, "extra_args.no_other")[:2] == ("RENAMED", "extra_args.other")
    assert read(off).recipes[0].extra_args["other"].bool_value is False


def test_the_one_switch_that_upstream_turned_off_is_no_change():
    result = converted(extra_args={"enable_expert_parallelism": False})
    assert told(result, "extra_args.enable_expert_parallelism")[:2] == ("RENAMED", "args.expert_parallel")
    assert (
        told(converted(extra_args={"enable_expert_parallel": False}), "extra_args.enable_expert_parallel")[0]
        == "CHANGED"
    )


def test_llamacpp_never_got_a_false():
    result = converted(backend="llamacpp", model_path="/m/x.gguf", extra_args={"mlock": False, "ctx-size": 8192})
    (recipe,) = read(result).recipes
    assert not recipe.extra_args
    assert recipe.args.max_model_len.value == 8192
    assert told(result, "tensor_parallel_size")[0] == "OBSOLETE"


@pytest.mark.parametrize(
    ("field", "value", "word"),
    [
        ("enable_auto_tool_choice", True, "no effect"),
        ("host", "0.0.0.0", "agent"),
        ("max_thinking_tokens", 10, "never used"),
        ("thinking_mode", "x", "never used"),
    ],
)
def test_what_means_nothing_any_more_is_obsolete(field: str, value: Any, word: str):
    outcome, became, note = told(converted(**{field: value}), field)
    assert (outcome, became) == ("OBSOLETE", "")
    assert word in note


@pytest.mark.parametrize("flag", ["use_v2_block_manager", "max-paddings", "swap_space", "quantization_param_path"])
def test_flags_that_todays_vllm_has_not_are_left_out(flag: str):
    result = converted(extra_args={flag: 1})
    assert told(result, f"extra_args.{flag}")[0] == "OBSOLETE"
    assert not read(result).recipes[0].extra_args


def test_a_share_of_memory_is_no_number_of_bytes():
    outcome, became, note = told(converted(), "gpu_memory_utilization")
    assert (outcome, became) == ("CHANGED", "resources.gpu.memory")
    assert "0.9" in note
    assert recipe_of().resources.gpu.memory.auto


def test_the_models_own_code_runs_only_where_its_commit_is_known():
    assert told(converted(), "trust_remote_code")[0] == "REFUSED"
    assert not recipe_of().args.trust_remote_code
    assert recipe_of(extra_args={"revision": COMMIT}).args.trust_remote_code
    assert told(converted(extra_args={"revision": COMMIT}), "trust_remote_code")[0] == "MAPPED"
    assert told(converted(trust_remote_code=False), "trust_remote_code")[0] == "MAPPED"


def test_what_upstream_did_unasked_is_told_of():
    result = convert(json.dumps({"id": "a", "model_path": "o/m"}))
    (recipe,) = read(result).recipes
    assert not recipe.args.HasField("trust_remote_code")
    assert not recipe.args.HasField("max_model_len")
    for field in ("trust_remote_code", "max_model_len", "max_num_seqs"):
        assert told(result, field)[0] == "CHANGED"


def test_the_interpreter_becomes_the_program_beside_it():
    assert recipe_of(python_path="/opt/v/bin/python").engine.path == "/opt/v/bin/vllm"
    assert recipe_of(backend="sglang", extra_args={"venv_path": "/opt/s"}).engine.path == "/opt/s/bin/sglang"
    assert told(converted(python_path="venv/bin/python"), "python_path")[0] == "REFUSED"


def test_speculative_settings_come_together():
    parts = recipe_of(extra_args={"speculative_model": "o/draft", "num_speculative_tokens": 3}).args.speculative
    assert dict(parts) == {"model": "o/draft", "num_speculative_tokens": 3}
    text = recipe_of(extra_args={"speculative_config": '{"method": "ngram"}'}).args.speculative
    assert dict(text) == {"method": "ngram"}
    assert told(converted(extra_args={"speculative_config": "{"}), "extra_args.speculative_config")[0] == "REFUSED"


def test_another_engines_spelling_is_mended():
    assert recipe_of(tool_call_parser="minimax-m2").args.tool_parser == "minimax_m2"
    mended = recipe_of(backend="sglang", reasoning_parser="minimax_m2_append_think").args.reasoning_parser
    assert mended == "minimax-append-think"


def test_the_served_name_is_a_stopped_deployment():
    result = convert(
        json.dumps(
            {
                "recipes": [
                    WHOLE | {"served_model_name": "chat"},
                    WHOLE | {"id": "b", "served_model_name": "chat"},
                    WHOLE | {"id": "c", "served_model_name": "org/model"},
                ]
            }
        )
    )
    parsed = read(result)
    assert [(spec.name, list(spec.aliases), spec.recipe) for spec in parsed.deployments] == [
        ("chat", [], "qwen3-32b"),
        ("c", ["org/model"], "c"),
    ]
    assert parsed.stopped == {"chat", "c"}
    refusals = [entry for entry in result.report if entry.recipe == "b" and entry.field == "served_model_name"]
    assert "chat" in refusals[0].note


@pytest.mark.parametrize(
    ("field", "value"),
    [("backend", "mlx"), ("model_path", "../here"), ("model_path", None), ("id", "a b"), ("id", "")],
)
def test_without_a_name_a_model_or_an_engine_it_is_no_recipe(field: str, value: Any):
    result = converted(**{field: value})
    assert result.manifest == ""
    assert told(result, field)[0] == "REFUSED"


def test_one_bad_recipe_does_not_keep_the_others_out():
    result = convert(json.dumps([WHOLE | {"backend": "mlx"}, WHOLE | {"id": "good"}, WHOLE | {"id": "good"}]))
    assert [recipe.name for recipe in read(result).recipes] == ["good"]


@pytest.mark.parametrize(
    "flag", ["api_key", "HF_TOKEN", "port", "docker_image", "cuda_visible_devices", "launch-command"]
)
def test_what_is_not_a_recipes_to_say_is_refused(flag: str):
    result = converted(extra_args={flag: "secret-value"})
    assert told(result, f"extra_args.{flag}")[0] == "REFUSED"
    assert "secret-value" not in result.manifest + str(result.report)


def test_keys_that_upstream_does_not_know_are_extra_arguments():
    result = converted(compilation_config={"a-b": {"c-d": 1}}, tags=["x", "y"])
    (recipe,) = read(result).recipes
    assert recipe.extra_args["compilation-config"].struct_value["a_b"]["c_d"] == 1
    assert set(recipe.labels) == {"x", "y"}


@pytest.mark.parametrize(
    "text", ["", "{", "3", "[]", "[1]", '{"id": NaN}', "[" * 100_000, '{"id": "\\u0000"}', '{"a":1e999}']
)
def test_what_are_no_recipes_is_refused_whole(text: str):
    with pytest.raises(ValueError, match=r"\w"):
        convert(text)


texts = st.text(max_size=8)
anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
some_fields = st.dictionaries(st.sampled_from([*WHOLE, "tp", "engine", "swap_space", "zzz"]), anything, max_size=4)


@given(
    some_fields, st.dictionaries(texts | st.sampled_from(["seed", "tags", "speculative_config"]), anything, max_size=3)
)
def test_whatever_comes_is_refused_or_can_be_applied(fields: dict[str, Any], extra: dict[str, Any]):
    try:
        result = convert(json.dumps(WHOLE | {"extra_args": extra} | fields))
    except ValueError:
        return
    if result.manifest:
        read(result)
    else:
        assert any(entry.outcome == ConvertedField.OUTCOME_REFUSED for entry in result.report)
