"""A preset fills in what a recipe leaves out, and no engine refuses what it fills in."""

import pytest
from builders import a_recipe
from fakes.driver_cases import launch, some_facts
from fakes.world import World
from studio.v1.recipe_pb2 import EngineArgs, EngineChoice, IntOrAuto, Recipe
from studio_agent.engines.model_facts import ModelFacts
from studio_coordinator.manifest.checks import ENGINES
from studio_coordinator.manifest.checks import PRESETS as KNOWN
from studio_coordinator.plan.presets import FLAGS, PRESETS, TAKEN, effective

QWEN = some_facts("Qwen3ForCausalLM", template="<tool_call> name arguments <think>")


def with_preset(preset: str, engine: str = "vllm", **fields: object) -> Recipe:
    return a_recipe(preset=preset, engine=EngineChoice(name=engine), **fields)


def test_every_preset_that_a_recipe_may_name_stands_for_something():
    assert set(PRESETS) == set(KNOWN)
    assert set(TAKEN) == set(ENGINES)
    for arguments in PRESETS.values():
        assert {field.name for field, _ in arguments.ListFields()} <= set(FLAGS)


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_what_the_recipe_says_itself_wins(preset: str):
    own = EngineArgs(
        max_model_len=IntOrAuto(value=4096),
        kv_cache_dtype="fp8_e5m2",
        max_num_seqs=7,
        max_num_batched_tokens=900,
        prefix_caching=False,
        chunked_prefill=False,
        enforce_eager=False,
        tool_parser="hermes",
        reasoning_parser="qwen3",
    )
    assert effective(with_preset(preset, args=own)).args == own


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_a_written_out_recipe_is_written_out(preset: str):
    recipe = with_preset(preset)
    before = Recipe.FromString(recipe.SerializeToString())
    written = effective(recipe)
    assert recipe == before, "the recipe itself is left alone"
    assert written.args == PRESETS[preset]
    assert not written.preset
    assert effective(written) is written


def test_a_recipe_without_a_preset_stays_as_it_is():
    recipe = a_recipe(max_model_len=5)
    assert effective(recipe) is recipe


def test_a_flag_among_the_extra_arguments_wins_as_well():
    recipe = with_preset("high-throughput")
    recipe.extra_args["max-num-seqs"].number_value = 3
    recipe.extra_args["no_enable_prefix_caching"].bool_value = True
    args = effective(recipe).args
    assert not args.HasField("max_num_seqs")
    assert not args.HasField("prefix_caching")
    assert args.max_num_batched_tokens == PRESETS["high-throughput"].max_num_batched_tokens


def test_chunks_have_no_size_where_nothing_is_chunked():
    args = effective(with_preset("high-throughput", args=EngineArgs(chunked_prefill=False))).args
    assert not args.HasField("max_num_batched_tokens")


def test_llamacpp_is_not_given_hundreds_of_contexts():
    args = effective(with_preset("high-throughput", "llamacpp", max_model_len=8192)).args
    assert not args.HasField("max_num_seqs")
    assert args.prefix_caching


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_every_engine_takes_every_preset(preset: str, engine: str):
    recipe = effective(with_preset(preset, engine))
    facts: ModelFacts | None = QWEN
    if engine == "tabbyapi" and recipe.args.tool_parser:
        facts = some_facts("GptOssForCausalLM")
    assert launch(engine, recipe, model=facts).argv


def test_agents_are_handed_the_written_out_recipe():
    world = World()
    world.deploy("chat")
    world.recipes["chat", 1].preset = "low-latency"
    world.step()
    (assigned,) = [replica for document in world.assignments.values() for replica in document.replicas]
    assert assigned.recipe.args == PRESETS["low-latency"]
    assert not assigned.recipe.preset
