"""What a recipe's preset stands for: typed arguments, wherever the recipe says nothing itself.

================ ======================================================================================================
high-throughput  many requests at once and long batches: the most tokens per second of a GPU, at some latency
low-latency      few requests at once and short batches, so that a token waits for little else
long-context     the longest context that fits, in a cache of half the size; few requests at once
memory-efficient a cache of half the size, fewer requests, no CUDA graphs: more room, slower tokens
tool-calling     the tool and reasoning parsers that the model's own files call for, and reuse of long system prompts
================ ======================================================================================================

What an engine has no setting for is left out. A cache in fp8 needs a GPU that has it: ``kv_cache_dtype: auto`` takes it back.
"""

from collections.abc import Mapping

from studio.v1.recipe_pb2 import EngineArgs, IntOrAuto, Recipe

PRESETS: Mapping[str, EngineArgs] = {
    "high-throughput": EngineArgs(
        max_num_seqs=512, max_num_batched_tokens=16_384, prefix_caching=True, chunked_prefill=True
    ),
    "low-latency": EngineArgs(max_num_seqs=32, max_num_batched_tokens=2_048, prefix_caching=True, chunked_prefill=True),
    "long-context": EngineArgs(
        max_model_len=IntOrAuto(auto=True),
        kv_cache_dtype="fp8",
        max_num_seqs=16,
        prefix_caching=True,
        chunked_prefill=True,
    ),
    "memory-efficient": EngineArgs(
        kv_cache_dtype="fp8", max_num_seqs=64, max_num_batched_tokens=2_048, enforce_eager=True
    ),
    "tool-calling": EngineArgs(tool_parser="auto", reasoning_parser="auto", prefix_caching=True),
}

ALL = frozenset(EngineArgs.DESCRIPTOR.fields_by_name)
# Of the presets' arguments, those that an engine takes. llama.cpp gives each of `max_num_seqs` requests a whole context of its
# own, so that a number which suits others would ask it for many times the memory.
TAKEN: Mapping[str, frozenset[str]] = {
    "vllm": ALL,
    "sglang": ALL,
    "tabbyapi": ALL,
    "llamacpp": ALL - {"max_num_seqs", "max_num_batched_tokens", "enforce_eager"},
    "demo": frozenset({"max_model_len", "max_num_seqs"}),
}

# The engines' own flags for the same, which a recipe may have set among its `extra_args` instead.
FLAGS: Mapping[str, frozenset[str]] = {
    "max_model_len": frozenset({"max-model-len", "context-length", "max-seq-len", "ctx-size"}),
    "kv_cache_dtype": frozenset({"kv-cache-dtype", "cache-mode", "cache-type-k", "cache-type-v"}),
    "max_num_seqs": frozenset({"max-num-seqs", "max-running-requests", "max-batch-size", "parallel"}),
    "max_num_batched_tokens": frozenset(
        {"max-num-batched-tokens", "chunked-prefill-size", "max-prefill-tokens", "chunk-size", "batch-size"}
    ),
    "prefix_caching": frozenset({"enable-prefix-caching", "disable-radix-cache", "cache-prompt"}),
    "chunked_prefill": frozenset({"enable-chunked-prefill", "chunked-prefill-size"}),
    "enforce_eager": frozenset(
        {"enforce-eager", "disable-cuda-graph", "cuda-graph-backend-decode", "cuda-graph-backend-prefill"}
    ),
    "tool_parser": frozenset({"tool-call-parser", "enable-auto-tool-choice", "tool-format"}),
    "reasoning_parser": frozenset({"reasoning-parser", "reasoning", "reasoning-format"}),
}


def effective(recipe: Recipe) -> Recipe:
    """The recipe with its preset written out, and named no more; the same object where it has none."""
    if recipe.preset not in PRESETS:
        return recipe
    written = Recipe()
    written.CopyFrom(recipe)
    written.ClearField("preset")
    written.args.CopyFrom(_arguments(recipe))
    written.args.MergeFrom(recipe.args)
    return written


def _arguments(recipe: Recipe) -> EngineArgs:
    """The preset's arguments that the recipe's engine takes and that its `extra_args` do not set."""
    taken = TAKEN.get(recipe.engine.name, frozenset())
    said = {name.replace("_", "-").removeprefix("no-") for name in recipe.extra_args}
    preset = PRESETS[recipe.preset].ListFields()
    arguments = EngineArgs(
        **{field.name: value for field, value in preset if field.name in taken and not said & FLAGS[field.name]}
    )
    if recipe.args.HasField("chunked_prefill") and not recipe.args.chunked_prefill:
        # The size of a batch is then that of the longest prompt.
        arguments.ClearField("max_num_batched_tokens")
    return arguments
