"""The friendly forms in which values may be written."""

import json

import pytest
from google.protobuf.struct_pb2 import Value
from studio.v1.deployment_pb2 import DeploymentSpec
from studio.v1.recipe_pb2 import Recipe
from studio_coordinator.manifest import changed_paths, parse

GIB = 2**30

EXAMPLE = """\
kind: Recipe
name: qwen3-32b-fp8
model:
  source: hf://Qwen/Qwen3-32B-FP8        # hf://, path:///srv/models/…
  revision: 0a1b2c3d
engine:
  name: vllm
  version: 0.33.0
args:
  max_model_len: 65536                    # or auto
  tensor_parallel: 2                      # or auto
  kv_cache_dtype: fp8
  kv_cache_memory: 1GiB
  tool_parser: auto
extra_args: {enable-prefix-caching: true}
env: {}
resources:
  gpu: {count: 2, memory: auto, model: [H100, H200]}
---
kind: Deployment
name: chat
aliases: [gpt-4o-mini]
recipe: qwen3-32b-fp8
replicas: {min: 0, max: 3}
placement: {spread: host, labels: {pool: prod}}
priority: 100
idle: {sleep_after: 10m, stop_after: 2h}
rollout: {surge: 1, canary: {share: 10%, for: 5m}, on_failure: rollback}
"""


def recipe(**fields: object) -> Recipe:
    parsed = parse(json.dumps({"kind": "Recipe", "name": "a", "engine": {"name": "demo"}, **fields}))
    assert list(parsed.problems) == []
    return parsed.recipes[0]


def yaml_recipe(line: str) -> Recipe:
    parsed = parse(f"kind: Recipe\nname: a\nengine: {{name: demo}}\n{line}\n")
    assert list(parsed.problems) == []
    return parsed.recipes[0]


def test_the_example_of_the_documentation():
    parsed = parse(EXAMPLE)
    assert parsed.problems == []
    [made], [chat] = parsed.recipes, parsed.deployments
    assert (made.name, made.engine.version, made.args.max_model_len.value) == ("qwen3-32b-fp8", "0.33.0", 65536)
    assert made.args.kv_cache_memory_bytes == GIB
    assert made.extra_args["enable-prefix-caching"] == Value(bool_value=True)
    assert made.resources.gpu.memory.auto
    assert list(made.resources.gpu.model) == ["H100", "H200"]
    assert (chat.replicas.min, chat.replicas.HasField("min"), chat.replicas.max) == (0, True, 3)
    assert (chat.idle.sleep_after.seconds, chat.idle.stop_after.seconds) == (600, 7200)
    assert (chat.rollout.canary.share, getattr(chat.rollout.canary, "for").seconds) == (0.1, 300)


def test_the_same_as_json():
    as_json = json.dumps({"kind": "Recipe", "name": "a", "engine": {"name": "demo"}, "env": {"A": "1"}}, indent="\t")
    assert parse(as_json).recipes == [recipe(env={"A": "1"})]


@pytest.mark.parametrize(
    "description", ["🐉 ünï", 'quo"te', "back\\ud83d\\ude00slash", "tab\tnew\nline", "\u2028 \x85 \x7f", "/"]
)
@pytest.mark.parametrize("ascii_only", [True, False])
def test_json_texts_with_any_character(description: str, ascii_only: bool):
    text = json.dumps(
        {"kind": "Recipe", "name": "a", "engine": {"name": "demo"}, "description": description}, ensure_ascii=ascii_only
    )
    assert [item.description for item in parse(text).recipes] == [description]


@pytest.mark.parametrize(
    ("written", "size"),
    [
        ("24GiB", 24 * GIB),
        ("512 MiB", 512 * 2**20),
        ("80GB", 80 * 10**9),
        ("1.5GiB", 3 * 2**29),
        ("1024", 1024),
        ("7B", 7),
    ],
)
def test_sizes(written: str, size: int):
    made = yaml_recipe(f"resources: {{host_memory: {written}, gpu: {{memory: {written}}}}}")
    assert (made.resources.host_memory_bytes, made.resources.gpu.memory.bytes) == (size, size)
    assert made == yaml_recipe(f"resources: {{host_memory_bytes: {written}, gpu: {{memory: {written}}}}}")


@pytest.mark.parametrize(
    ("written", "seconds", "nanos"),
    [("10m", 600, 0), ("1h30m", 5400, 0), ("45s", 45, 0), ("90", 90, 0), ("0", 0, 0), ("1.5s", 1, 500_000_000),
     ("250ms", 0, 250_000_000), ("1d 2h", 93_600, 0), ("2.5", 2, 500_000_000)],
)  # fmt: skip
def test_durations(written: str, seconds: int, nanos: int):
    parsed = parse(f"kind: Deployment\nname: c\nrecipe: a\nidle: {{stop_after: {written}}}")
    assert parsed.problems == []
    duration = parsed.deployments[0].idle.stop_after
    assert (duration.seconds, duration.nanos) == (seconds, nanos)


@pytest.mark.parametrize(("written", "share"), [("20%", 0.2), ("0.2", 0.2), ("12.5 %", 0.125), ("1", 1.0)])
def test_shares(written: str, share: float):
    assert yaml_recipe(f"resources: {{gpu: {{share: {written}}}}}").resources.gpu.share == share


@pytest.mark.parametrize(("written", "number"), [("131_072", 131072), ('"4096"', 4096), ("+8", 8)])
def test_whole_numbers(written: str, number: int):
    assert yaml_recipe(f"args: {{max_model_len: {written}}}").args.max_model_len.value == number


@pytest.mark.parametrize("written", ["0.33", "1e5", "yes", "2026-01-01", "12:30", "0x1F", "010"])
def test_a_text_is_taken_as_it_is_written(written: str):
    made = yaml_recipe(f"env: {{A: {written}}}\nmodel: {{revision: {written}}}")
    assert (made.env["A"], made.model.revision) == (written, written)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("true", Value(bool_value=True)),
        ("off", Value(bool_value=False)),
        ('"true"', Value(string_value="true")),
        ("8", Value(number_value=8)),
        ("1e6", Value(number_value=1_000_000)),
        ("-.5", Value(number_value=-0.5)),
        ('"8"', Value(string_value="8")),
        ("!!str 8", Value(string_value="8")),
        ("1.2.3", Value(string_value="1.2.3")),
        ("", Value(null_value=0)),
        ("~", Value(null_value=0)),
        ("'~'", Value(string_value="~")),
    ],
)
def test_any_value(written: str, value: Value):
    assert yaml_recipe(f"extra_args:\n  x: {written}").extra_args["x"] == value


def test_any_value_may_be_nested():
    made = yaml_recipe("extra_args: {x: {a: [1, {b: null}], c: {}}}")
    [first, second] = made.extra_args["x"].struct_value["a"]
    assert (first, dict(second)) == (1, {"b": None})


def test_aliases_stand_for_what_they_name():
    made = yaml_recipe("labels: &all {team: x}\nextra_args: {labels: *all}")
    assert dict(made.extra_args["labels"].struct_value) == dict(made.labels) == {"team": "x"}


def test_an_empty_variable_is_an_empty_text():
    assert dict(yaml_recipe("env:\n  A:\n  B: ''\n  C: ~").env) == {"A": "", "B": "", "C": ""}


def test_changes_are_told_by_path():
    before = DeploymentSpec(name="c", recipe="a", aliases=["x"])
    after = DeploymentSpec(name="c", recipe="b", priority=5)
    after.idle.sleep_after.FromSeconds(90)
    assert changed_paths(before, after) == [
        "aliases: [x] → unset",
        "idle.sleep_after: unset → 1m30s",
        "priority: unset → 5",
        "recipe: a → b",
    ]
    assert changed_paths(before, before) == []


def test_changes_tell_no_secret():
    before, after = recipe(env={"A": "hush", "B": "hush"}), recipe(env={"A": "quiet", "C": "quiet"})
    assert changed_paths(before, after) == ["env.A: changed", "env.B: removed", "env.C: set"]
