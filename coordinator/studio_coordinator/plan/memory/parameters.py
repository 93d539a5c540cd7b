"""Weights from the architecture alone: how many parameters each decoder layer has, and how wide they are stored."""

from studio_coordinator.plan.memory.architecture import Architecture
from studio_coordinator.plan.memory.config_defaults import STATE_ONLY_MODEL_TYPES, UNGATED_MODEL_TYPES
from studio_coordinator.plan.memory.config_text import Config, integer
from studio_coordinator.plan.memory.facts import LayerWeights, StateCache, WeightFacts
from studio_coordinator.plan.memory.layer_pattern import LayerKind, is_dense_layer
from studio_coordinator.plan.memory.parts import Source
from studio_coordinator.plan.memory.quantization import WeightWidth
from studio_coordinator.plan.memory.state_parameters import state_parameters

_TOWER_ERROR = 0.3
_GATED_TOWERS = frozenset({"pixtral", "qwen2_5_vl"})


def formula_weights(architecture: Architecture, width: WeightWidth, config: Config) -> WeightFacts:
    """Bytes by place, from the counts of parameters; exact for plain decoders, rough for towers."""
    sizes, text = architecture.dimensions, architecture.text
    embedding = int(sizes.vocabulary * sizes.hidden_size * width.plain_bytes)
    layers = tuple(_layer(architecture, width, layer, kind) for layer, kind in enumerate(architecture.kinds))
    tower = int(_tower_parameters(config, sizes.hidden_size) * width.plain_bytes)
    # Some models have a second, narrow embedding of every token for each layer: on the first stage, as towers are.
    narrow = integer(text, "hidden_size_per_layer_input") or 0
    for_layers = (integer(text, "vocab_size_per_layer_input") or sizes.vocabulary) * narrow * sizes.layers
    beside = int(for_layers * width.plain_bytes)
    known = embedding * (1 if architecture.tied else 2) + beside + sum(layer.bytes for layer in layers)
    error = 0.01 if not architecture.unknown and not width.unknown else 0.5
    return WeightFacts(
        embedding_bytes=embedding,
        head_bytes=0 if architecture.tied else embedding,
        layers=layers,
        tower_bytes=tower + beside,
        source=Source.BOUND if architecture.unknown or width.unknown else Source.FORMULA,
        relative_error=(error * known + _TOWER_ERROR * tower) / max(known + tower, 1),
    )


def _layer(architecture: Architecture, width: WeightWidth, layer: int, kind: LayerKind) -> LayerWeights:
    sizes = architecture.dimensions
    hidden = sizes.hidden_size
    split = key_value = whole = 0
    if kind in {LayerKind.STATE, LayerKind.BOTH}:
        state = next((cache for cache in architecture.caches[layer] if isinstance(cache, StateCache)), None)
        split += state_parameters(architecture.text, hidden, state)
    if kind not in {LayerKind.STATE, LayerKind.NONE}:
        attention_split, key_value, attention_whole = _attention_parameters(architecture)
        split, whole = split + attention_split, whole + attention_whole
    feed_split, router, experts = _feed_forward_parameters(architecture, layer, kind)
    norms = 2 * hidden
    return LayerWeights(
        split_bytes=int((split + feed_split) * width.linear_bytes),
        key_value_bytes=int(key_value * width.linear_bytes),
        whole_bytes=int(whole * width.linear_bytes + (norms + router) * width.plain_bytes),
        expert_bytes=int(experts * width.expert_bytes),
    )


def _attention_parameters(architecture: Architecture) -> tuple[int, int, int]:
    """(split, key and value projections, whole) parameters of one attention block."""
    sizes, text = architecture.dimensions, architecture.text
    hidden, heads = sizes.hidden_size, sizes.attention_heads
    latent, rope = integer(text, "kv_lora_rank"), integer(text, "qk_rope_head_dim")
    if latent and rope:
        plain_dim = integer(text, "qk_nope_head_dim") or sizes.head_dim
        query_rank = integer(text, "q_lora_rank")
        query_width = heads * (plain_dim + rope)
        split = query_width * (query_rank or hidden)
        split += latent * heads * (plain_dim + sizes.v_head_dim) + heads * sizes.v_head_dim * hidden
        return split, 0, hidden * (latent + rope) + (hidden * query_rank if query_rank else 0)
    query = hidden * heads * sizes.head_dim * (2 if text.get("attn_output_gate") else 1)
    output = heads * sizes.v_head_dim * hidden
    return query + output, hidden * sizes.kv_heads * (sizes.head_dim + sizes.v_head_dim), 0


def _feed_forward_parameters(architecture: Architecture, layer: int, kind: LayerKind) -> tuple[int, int, int]:
    """(split, router, expert) parameters of the feed-forward part of one layer."""
    sizes, text, experts = architecture.dimensions, architecture.text, architecture.experts
    if text.get("model_type") in STATE_ONLY_MODEL_TYPES or _is_elsewhere(architecture, kind):
        return 0, 0, 0
    hidden = sizes.hidden_size
    matrices = 2 if text.get("model_type") in UNGATED_MODEL_TYPES else 3
    if experts is None or is_dense_layer(text, layer):
        dense = integer(text, "intermediate_size_mlp") or sizes.intermediate_size
        return matrices * hidden * dense, 0, 0
    inner = experts.intermediate_size
    shared_count = (
        integer(text, "n_shared_experts", "num_shared_experts", "num_shared_expert", "moe_num_shared_experts") or 0
    )
    shared_size = integer(
        text, "shared_expert_intermediate_size", "shared_intermediate_size", "moe_shared_expert_intermediate_size"
    )
    shared = shared_size if shared_size is not None else shared_count * inner
    routed = experts.count * matrices * hidden * inner
    return matrices * hidden * shared, experts.count * hidden, routed


def _is_elsewhere(architecture: Architecture, kind: LayerKind) -> bool:
    """Whether the model has layers of their own for its feed-forward blocks, and this is another."""
    return kind is not LayerKind.NONE and LayerKind.NONE in architecture.kinds


def _tower_parameters(config: Config, hidden: int) -> int:
    """Rough parameters of a vision or audio tower with its projector; 0 where there is none."""
    total = 0
    for name in ("vision_config", "audio_config"):
        tower = config.get(name)
        if not isinstance(tower, dict):
            continue
        width = integer(tower, "hidden_size", "embed_dim", "width", "d_model") or 1024
        depth = integer(tower, "num_hidden_layers", "depth", "layers", "encoder_layers") or 24
        inner = integer(tower, "intermediate_size", "encoder_ffn_dim") or 4 * width
        matrices = 3 if tower.get("model_type") in _GATED_TOWERS else 2
        projector = width * hidden
        if merge := integer(config, "spatial_merge_size"):
            # Neighbouring patches are merged, then projected twice.
            projector = merge**2 * width * width + width * hidden + hidden * hidden
        total += depth * (4 * width * width + matrices * width * inner) + projector
    return total
