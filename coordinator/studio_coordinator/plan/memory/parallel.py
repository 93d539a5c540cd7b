"""How a model is split: which splits exist, and which decoder layers each pipeline stage holds."""

from collections.abc import Iterator
from dataclasses import dataclass

from studio_coordinator.plan.memory.facts import ModelFacts
from studio_coordinator.plan.memory.sizes import round_up

# vLLM pads the vocabulary to this multiple before it splits it.
_VOCABULARY_PADDING = 64


@dataclass(frozen=True)
class Stage:
    """Decoder layers `first` to `last` - 1; whether the stage also holds the embedding, or the head and the sampler."""

    first: int
    last: int
    is_first: bool
    is_last: bool


def pipeline_stages(layers: int, stages: int) -> tuple[Stage, ...]:
    """Equal stages; what remains goes to the last but one, then to those before it (vLLM's `get_pp_indices`)."""
    sizes = [layers // stages] * stages
    for extra in range(layers % stages):
        sizes[-2 - extra] += 1
    starts = [sum(sizes[:index]) for index in range(stages)]
    return tuple(
        Stage(start, start + size, is_first=index == 0, is_last=index == stages - 1)
        for index, (start, size) in enumerate(zip(starts, sizes, strict=True))
    )


def why_not(facts: ModelFacts, tensor_parallel: int, pipeline_parallel: int) -> str:
    """Why the model cannot be split so; empty when it can."""
    if tensor_parallel < 1 or pipeline_parallel < 1:
        return "parallel sizes start at 1"
    if pipeline_parallel > facts.layers:
        return f"{facts.layers} layers cannot make {pipeline_parallel} pipeline stages"
    if facts.attends and facts.attention_heads % tensor_parallel:
        return f"{facts.attention_heads} attention heads cannot be divided by {tensor_parallel}"
    kv = facts.kv_heads
    if facts.attends and not facts.latent and kv % tensor_parallel and tensor_parallel % kv:
        return f"{kv} KV heads cannot be divided by {tensor_parallel}, nor repeated on each rank"
    if round_up(facts.vocabulary, _VOCABULARY_PADDING) % tensor_parallel:
        return f"a vocabulary of {facts.vocabulary} cannot be divided by {tensor_parallel}"
    return ""


def splits(facts: ModelFacts, most_gpus: int) -> Iterator[tuple[int, int]]:
    """(tensor, pipeline) splits that the model allows, fewest GPUs first, tensor parallelism before pipelines."""
    for gpus in range(1, most_gpus + 1):
        for tensor_parallel in range(gpus, 0, -1):
            if gpus % tensor_parallel == 0 and not why_not(facts, tensor_parallel, gpus // tensor_parallel):
                yield tensor_parallel, gpus // tensor_parallel
