"""Which kind of memory each decoder layer keeps: the many ways in which a config.json says so, in one list."""

from collections.abc import Sequence
from enum import Enum

from studio_coordinator.plan.memory.config_defaults import STATE_ONLY_MODEL_TYPES
from studio_coordinator.plan.memory.config_text import Config, integer


class LayerKind(Enum):
    """What a layer keeps per request."""

    FULL = "full attention"
    WINDOW = "sliding-window attention"
    CHUNK = "chunked local attention"
    STATE = "fixed state"
    BOTH = "attention and fixed state"
    NONE = "nothing"


_WORDS = {
    "full_attention": LayerKind.FULL, "attention": LayerKind.FULL, "global_attention": LayerKind.FULL,
    "sliding_attention": LayerKind.WINDOW, "local_attention": LayerKind.WINDOW,
    "chunked_attention": LayerKind.CHUNK,
    "linear_attention": LayerKind.STATE, "mamba": LayerKind.STATE, "mamba2": LayerKind.STATE, "conv": LayerKind.STATE,
    "recurrent": LayerKind.STATE, "hybrid": LayerKind.BOTH,
    "mlp": LayerKind.NONE, "moe": LayerKind.NONE,
    "M": LayerKind.STATE, "*": LayerKind.FULL, "-": LayerKind.NONE, "E": LayerKind.NONE,
}  # fmt: skip
# Layers of their own for a dense feed-forward block, where others of the model have experts.
_DENSE_WORDS = frozenset({"mlp", "-"})


def layer_kinds(text: Config, layers: int) -> tuple[tuple[LayerKind, ...], tuple[str, ...]]:
    """The kind of each of `layers` layers, and the words that were not understood (taken for full attention)."""
    words = _words(text)
    if len(words) >= layers:
        unknown = sorted(set(words[:layers]) - _WORDS.keys())
        kinds = tuple(_WORDS.get(word, LayerKind.FULL) for word in words[:layers])
        return kinds, tuple(f"layer type {word!r}, counted as full attention" for word in unknown)
    missing = (f"layer types: only {len(words)} of {layers} are there, so all follow from other keys",) if words else ()
    return tuple(_by_rule(text, layer) for layer in range(layers)), missing


def _by_rule(text: Config, layer: int) -> LayerKind:
    mixed = _state_or_attention(text, layer)
    return mixed if mixed is not None else _window_or_full(text, layer)


def _state_or_attention(text: Config, layer: int) -> LayerKind | None:
    """The kind in a model that mixes attention with fixed state; None in any other model."""
    attention: bool | None = None
    model_type = text.get("model_type")
    linear = text.get("linear_attn_config")
    if model_type == "falcon_h1":
        return LayerKind.BOTH
    if model_type in STATE_ONLY_MODEL_TYPES:
        attention = False
    elif isinstance(text.get("attn_layer_indices"), list):
        attention = layer in text["attn_layer_indices"]
    elif isinstance(text.get("full_attn_idxs"), list):
        attention = layer in text["full_attn_idxs"]
    elif isinstance(linear, dict) and "full_attn_layers" in linear:
        attention = layer + 1 in linear["full_attn_layers"]
    elif isinstance(text.get("attn_type_list"), list):
        attention = bool(text["attn_type_list"][layer])
    elif period := integer(text, "attn_layer_period"):
        attention = layer % period == (integer(text, "attn_layer_offset") or 0)
    elif interval := integer(text, "full_attention_interval"):
        attention = (layer + 1) % interval == 0
    if attention is None:
        return None
    return LayerKind.FULL if attention else LayerKind.STATE


def _window_or_full(text: Config, layer: int) -> LayerKind:
    chunk_pattern = integer(text, "chunk_pattern")
    if integer(text, "attention_chunk_size") and chunk_pattern:
        return LayerKind.FULL if (layer + 1) % chunk_pattern == 0 else LayerKind.CHUNK
    if not integer(text, "sliding_window") or text.get("use_sliding_window") is False:
        return LayerKind.FULL
    pattern = text.get("sliding_window_pattern") or text.get("_sliding_window_pattern")
    if isinstance(pattern, str) and pattern:
        return LayerKind.WINDOW if pattern[layer % len(pattern)] == "L" else LayerKind.FULL
    if isinstance(pattern, int):
        return LayerKind.FULL if (layer + 1) % pattern == 0 else LayerKind.WINDOW
    if text.get("use_sliding_window") and layer < (integer(text, "max_window_layers") or 0):
        return LayerKind.FULL
    return LayerKind.WINDOW


def is_dense_layer(text: Config, layer: int) -> bool:
    """Whether this layer of a mixture-of-experts model has a plain feed-forward block."""
    words = _words(text)
    if layer < len(words) and words[layer] in _DENSE_WORDS:
        return True
    first = integer(text, "first_k_dense_replace", "moe_layer_start_index") or 0
    last = integer(text, "moe_layer_end_index")
    if layer < first or (last is not None and last >= 0 and layer > last):
        return True
    if layer in (text.get("mlp_only_layers") or ()):
        return True
    step = integer(
        text,
        "decoder_sparse_step",
        "moe_layer_freq",
        "interleave_moe_layer_step",
        "expert_layer_period",
        "moe_layer_interval",
    )
    return bool(step and step > 1 and (layer + 1) % step != 0)


def _words(text: Config) -> Sequence[str]:
    """What the file says of each layer, if it does."""
    words = text.get("layer_types") or text.get("layers_block_type") or text.get("hybrid_override_pattern")
    return tuple(map(str, words)) if isinstance(words, list | tuple | str) else ()
