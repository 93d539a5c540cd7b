"""The one way to make `ModelFacts`: from a config.json, and from tensors or a total where there are any."""

from collections.abc import Sequence
from dataclasses import replace

from studio_coordinator.plan.memory.architecture import Architecture, read_architecture
from studio_coordinator.plan.memory.config_text import Config, integer
from studio_coordinator.plan.memory.dimensions import TensorEvidence
from studio_coordinator.plan.memory.errors import ConfigError
from studio_coordinator.plan.memory.facts import LayerWeights, ModelFacts, WeightFacts
from studio_coordinator.plan.memory.layer_pattern import LayerKind
from studio_coordinator.plan.memory.parameters import formula_weights
from studio_coordinator.plan.memory.parts import Source
from studio_coordinator.plan.memory.quantization import cache_type, weight_width
from studio_coordinator.plan.memory.tensors import StoredTensor, stored_weights, tensor_evidence


def model_facts(config: Config, tensors: Sequence[StoredTensor] = (), weight_bytes: int = 0) -> ModelFacts:
    """Facts of a model.

    `config` is its parsed config.json ({} when there is none), `tensors` what its safetensors or GGUF headers list,
    `weight_bytes` the size of its weight files when the headers were not read (0: not known either). Raises EstimateError.
    """
    try:
        return _model_facts(config, tensors, weight_bytes)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as problem:
        # Others write these files: a value of an unforeseen kind is a refusal.
        raise ConfigError(problem) from problem


def _model_facts(config: Config, tensors: Sequence[StoredTensor], weight_bytes: int) -> ModelFacts:
    evidence = tensor_evidence(tensors) if tensors else TensorEvidence()
    stored = sum(tensor.bytes for tensor in tensors) or weight_bytes
    architecture = read_architecture(config, evidence, stored)
    width = weight_width(architecture.text, architecture.element_type)
    if tensors:
        weights = stored_weights(tensors, architecture.dimensions.layers, tied=architecture.tied)
    else:
        weights = formula_weights(architecture, width, config)
        if weight_bytes:
            weights = _scaled(weights, weight_bytes)
    sizes = architecture.dimensions
    return ModelFacts(
        architecture=architecture.name,
        model_type=str(architecture.text.get("model_type", "")),
        hidden_size=sizes.hidden_size,
        attention_heads=sizes.attention_heads,
        kv_heads=sizes.kv_heads,
        vocabulary=sizes.vocabulary,
        intermediate_size=sizes.intermediate_size,
        element_type=architecture.element_type,
        max_positions=sizes.max_positions,
        caches=architecture.caches,
        weights=weights,
        experts=architecture.experts,
        quantization=width.method,
        cache_type=cache_type(architecture.text),
        rope_elements=_rope_elements(architecture),
        multimodal=architecture.multimodal,
        unknown=architecture.unknown + (() if tensors or weight_bytes else width.unknown),
    )


def _scaled(formula: WeightFacts, total_bytes: int) -> WeightFacts:
    """The formula's places scaled to the known total. Embedding and head are exact as they are, so only the rest moves."""
    fixed = min(formula.embedding_bytes + formula.head_bytes, total_bytes)
    rest = max(formula.bytes - formula.embedding_bytes - formula.head_bytes, 1)
    scale = (total_bytes - fixed) / rest
    if fixed < formula.embedding_bytes + formula.head_bytes:
        scale = total_bytes / formula.bytes
        fixed = 0
    fixed_scale = 1.0 if fixed else scale

    def layer(part: LayerWeights) -> LayerWeights:
        return LayerWeights(
            int(part.split_bytes * scale), int(part.key_value_bytes * scale),
            int(part.whole_bytes * scale), int(part.expert_bytes * scale),
        )  # fmt: skip

    scaled = replace(
        formula,
        embedding_bytes=int(formula.embedding_bytes * fixed_scale),
        head_bytes=int(formula.head_bytes * fixed_scale),
        layers=tuple(layer(part) for part in formula.layers),
        tower_bytes=int(formula.tower_bytes * scale),
        source=Source.GIVEN,
        relative_error=0.005,
    )
    # What rounding lost goes to the tower's place: the total is what was given.
    return replace(scaled, tower_bytes=scaled.tower_bytes + total_bytes - scaled.bytes)


def _rope_elements(architecture: Architecture) -> int:
    """Elements of the tables of rotary positions: longest position x rotary dimension, one table per kind of layer.

    `linear` and `dynamic` scaling stretch the table to factor x context, `yarn` to factor x original context; a second table,
    not stretched, serves the windows of models that rotate them with a base of their own.
    """
    sizes, text = architecture.dimensions, architecture.text
    rotary = integer(text, "qk_rope_head_dim") or int(sizes.head_dim * float(text.get("partial_rotary_factor") or 1))
    positions = sizes.max_positions
    scaling = text.get("rope_scaling") or text.get("rope_parameters")
    if isinstance(scaling, dict):
        scaling = scaling.get("full_attention", scaling)
        kind, factor = scaling.get("rope_type", scaling.get("type")), float(scaling.get("factor") or 1)
        if kind in {"linear", "dynamic"}:
            positions = int(positions * factor)
        elif kind == "yarn":
            positions = int(factor * (integer(scaling, "original_max_position_embeddings") or positions / factor))
    local = sizes.max_positions if text.get("rope_local_base_freq") and LayerKind.WINDOW in architecture.kinds else 0
    return max(0, (positions + local) * rotary)
