"""From a config.json to the caches that each layer of the model keeps."""

from dataclasses import dataclass, replace

from studio_coordinator.plan.memory.config_text import Config, element_type_of, integer, text_section
from studio_coordinator.plan.memory.dimensions import HEADS_UNKNOWN, Dimensions, TensorEvidence, read_dimensions
from studio_coordinator.plan.memory.facts import AttentionCache, Cache, Experts, LatentCache, StateCache
from studio_coordinator.plan.memory.layer_pattern import LayerKind, layer_kinds
from studio_coordinator.plan.memory.sizes import element_bytes
from studio_coordinator.plan.memory.state_shapes import state_cache

_TOWERS = ("vision_config", "audio_config", "vision_tower_config", "visual")


@dataclass(frozen=True)
class Architecture:
    """What config.json says of a model, apart from its weights."""

    name: str
    text: Config
    dimensions: Dimensions
    kinds: tuple[LayerKind, ...]
    caches: tuple[tuple[Cache, ...], ...]
    experts: Experts | None
    element_type: str
    tied: bool
    multimodal: bool
    unknown: tuple[str, ...]


def read_architecture(config: Config, evidence: TensorEvidence, weight_bytes: int) -> Architecture:
    """Architecture of the model that `config` describes; gaps are filled from `evidence` or bounded by `weight_bytes`."""
    text = text_section(config)
    dimensions = read_dimensions(text, evidence, weight_bytes)
    kinds, unknown = layer_kinds(text, dimensions.layers)
    if set(kinds) <= {LayerKind.STATE, LayerKind.NONE}:
        # Nobody misses the heads of attention that is not there.
        known = tuple(line for line in dimensions.unknown if line != HEADS_UNKNOWN)
        dimensions = replace(dimensions, unknown=known)
    caches, state_unknown = _caches(text, dimensions, kinds)
    names = config.get("architectures") or text.get("architectures") or ["unknown"]
    tied = text.get("tie_word_embeddings")
    if tied is None:
        tied = evidence.has_head is False
    element_type = element_type_of(text)
    wide = () if element_bytes(element_type) else (f"element type {element_type!r}: counted as 16 bits",)
    return Architecture(
        name=str(names[0]),
        text=text,
        dimensions=dimensions,
        kinds=kinds,
        caches=caches,
        experts=read_experts(text, dimensions.intermediate_size),
        element_type=element_type,
        tied=bool(tied),
        multimodal=any(config.get(tower) for tower in _TOWERS),
        unknown=dimensions.unknown + unknown + state_unknown + wide,
    )


def read_experts(text: Config, intermediate_size: int) -> Experts | None:
    """Routed experts, as wide as the feed-forward blocks where nothing else is said; None in a dense model."""
    count = integer(text, "num_local_experts", "n_routed_experts", "num_experts", "moe_num_experts")
    if not count or count == 1:
        return None
    size = integer(text, "moe_intermediate_size", "expert_ffn_hidden_size", "intermediate_size", "ffn_hidden_size")
    active = integer(text, "num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_top_k", "moe_k") or 1
    return Experts(count, active, size or intermediate_size)


def _caches(
    text: Config, sizes: Dimensions, kinds: tuple[LayerKind, ...]
) -> tuple[tuple[tuple[Cache, ...], ...], tuple[str, ...]]:
    state = state_cache(text, sizes.hidden_size)
    unknown: tuple[str, ...] = ()
    if state is None and any(kind in {LayerKind.STATE, LayerKind.BOTH} for kind in kinds):
        # Mamba keeps 2 x hidden channels; 256 states per channel is the largest in use.
        state = StateCache(2 * sizes.hidden_size, 4, 2 * sizes.hidden_size * 256, "float32")
        unknown = ("shape of the fixed state: bounded by 512 x hidden size elements of 4 bytes per layer",)
    shared = integer(text, "num_kv_shared_layers") or 0
    caches = [_layer_caches(text, sizes, kind, state) for kind in kinds]
    for layer in range(max(0, len(kinds) - shared), len(kinds)):
        caches[layer] = ()
    return tuple(caches), unknown


def _layer_caches(text: Config, sizes: Dimensions, kind: LayerKind, state: StateCache | None) -> tuple[Cache, ...]:
    kept_state = (state,) if state is not None and kind in {LayerKind.STATE, LayerKind.BOTH} else ()
    if kind in {LayerKind.STATE, LayerKind.NONE}:
        return kept_state
    latent, rope = integer(text, "kv_lora_rank"), integer(text, "qk_rope_head_dim")
    if latent and rope and text.get("is_causal", True):
        return (LatentCache(latent + rope, integer(text, "index_head_dim") or 0), *kept_state)
    kv_heads, head_dim, v_head_dim = sizes.kv_heads, sizes.head_dim, sizes.v_head_dim
    if kind is LayerKind.FULL and integer(text, "global_head_dim"):
        head_dim = v_head_dim = integer(text, "global_head_dim") or head_dim
        kv_heads = integer(text, "num_global_key_value_heads") or kv_heads
    attention = AttentionCache(
        kv_heads,
        head_dim,
        v_head_dim,
        window=integer(text, "sliding_window") or 0 if kind is LayerKind.WINDOW else 0,
        chunk=integer(text, "attention_chunk_size") or 0 if kind is LayerKind.CHUNK else 0,
    )
    return (attention, *kept_state)
