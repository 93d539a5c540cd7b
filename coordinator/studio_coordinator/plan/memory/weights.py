"""Bytes of weights on one rank of one pipeline stage.

weights = (split parts + experts) / ranks + whole parts + rotary tables, where experts are divided over the tensor- and
data-parallel ranks together, key and value projections only down to one KV head, the embedding is on the first stage and
the head on the last.
"""

from studio_coordinator.plan.memory.adapters import adapter_slots
from studio_coordinator.plan.memory.facts import LayerWeights, ModelFacts
from studio_coordinator.plan.memory.parallel import Stage
from studio_coordinator.plan.memory.parts import Part, Source
from studio_coordinator.plan.memory.settings import Question
from studio_coordinator.plan.memory.sizes import element_bytes, round_up

# Multiples to which the 4-bit expert kernels of vLLM pad the two sides of an expert.
_PADDED_INTERMEDIATE, _PADDED_HIDDEN = 128, 256
_ADAPTER_ERROR = 0.2


def rank_weights(facts: ModelFacts, question: Question, stage: Stage) -> Part:
    """Weights of one rank of `stage`."""
    weights, tensor_parallel = facts.weights, question.tensor_parallel
    plain, linear = _scales(facts, question)
    expert_ranks = tensor_parallel * question.settings.data_parallel
    held = sum(
        _layer(layer, facts, tensor_parallel, expert_ranks, plain, linear)
        for layer in weights.layers[stage.first : stage.last]
    )
    if stage.is_first:
        held += (weights.embedding_bytes + weights.tower_bytes) * plain / tensor_parallel
    if stage.is_last:
        head = weights.head_bytes
        if not head and not stage.is_first:
            head = weights.embedding_bytes  # a tied head is a second copy where the embedding is on another stage
        held += head * plain / tensor_parallel
    held += facts.rope_elements * activation_bytes(facts, question)
    adapters = adapter_slots(facts, question, stage)
    source, error = weights.source, weights.relative_error
    note = {
        Source.MEASURED: "sum of the stored tensors",
        Source.GIVEN: "size given for the weight files",
        Source.FORMULA: "counted from config.json",
    }.get(source, "bounded: parts of the architecture are unknown")
    if linear != plain:
        source, note = Source.FORMULA, f"{note}, quantized to {question.settings.quantization} while loading"
    if adapters:
        note += f"; {question.settings.lora_slots} LoRA slots of rank {question.settings.lora_rank}"
    # Which projections have slots differs a little from one architecture to another.
    return Part("weights", int(held) + adapters, source, note, int(held * error + adapters * _ADAPTER_ERROR))


def activation_bytes(facts: ModelFacts, question: Question) -> float:
    """Bytes of one element of the type in which the model computes."""
    return element_bytes(question.settings.element_type or facts.element_type) or 2


def _scales(facts: ModelFacts, question: Question) -> tuple[float, float]:
    """Factors on unquantized and on linear weights: another --dtype, or quantization while loading."""
    stored = element_bytes(facts.element_type) or 2
    plain = activation_bytes(facts, question) / stored if not facts.quantization else 1.0
    linear = plain
    online = question.settings.quantization.lower()
    if online and not facts.quantization:
        if "fp4" in online or "int4" in online or "bitsandbytes" in online:
            linear = 0.5625 / stored
        elif "fp8" in online or "int8" in online:
            linear = 1 / stored
    return plain, linear


def _layer(
    layer: LayerWeights, facts: ModelFacts, tensor_parallel: int, expert_ranks: int, plain: float, linear: float
) -> float:
    key_value_ranks = min(tensor_parallel, facts.kv_heads)
    return (
        layer.split_bytes * linear / tensor_parallel
        + layer.key_value_bytes * linear / key_value_ranks
        + layer.whole_bytes * plain
        + layer.expert_bytes * linear / expert_ranks * _expert_padding(facts, tensor_parallel)
    )


def _expert_padding(facts: ModelFacts, tensor_parallel: int) -> float:
    if facts.quantization != "mxfp4" or facts.experts is None or not facts.experts.intermediate_size:
        return 1.0
    inner = max(1, facts.experts.intermediate_size // tensor_parallel)
    padded = round_up(inner, _PADDED_INTERMEDIATE) * round_up(facts.hidden_size, _PADDED_HIDDEN)
    return padded / (inner * facts.hidden_size)
