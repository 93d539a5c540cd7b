"""The sizes that a config.json states, or the tensors show, or that can only be bounded.

Every size that is bounded adds a line to `unknown`; nothing that is unknown is ever counted as zero.
"""

from dataclasses import dataclass

from studio_coordinator.plan.memory.config_text import Config, element_type_of, integer
from studio_coordinator.plan.memory.errors import EstimateError, NothingKnownError
from studio_coordinator.plan.memory.quantization import weight_width
from studio_coordinator.plan.memory.sizes import round_up

# Narrowest decoder in use has about 32 hidden units per layer of depth; a narrower one needs more cache per weight,
# so this bounds the cache of a model of which only the size is known.
_NARROWEST_HIDDEN_PER_LAYER = 32
_LARGEST_VOCABULARY = 262_144
HEADS_UNKNOWN = "attention heads: KV bounded as full multi-head attention"
_KV_HEADS = ("num_key_value_heads", "n_head_kv", "num_kv_heads", "kv_n_heads", "multi_query_group_num")
# Four times the deepest decoder in use.
_DEEPEST = 512
# Each layer is gone through one by one: a file must not keep its reader busy for hours.
_MOST_LAYERS = 4096


@dataclass(frozen=True)
class TensorEvidence:
    """What the names and shapes of the stored tensors show; None where they do not."""

    layers: int | None = None
    hidden_size: int | None = None
    vocabulary: int | None = None
    # Width of a key projection: KV heads x head dimension.
    key_width: int | None = None
    has_head: bool | None = None


@dataclass(frozen=True)
class Dimensions:
    """Sizes of the language model. `head_dim` is of keys, `v_head_dim` of values."""

    layers: int
    hidden_size: int
    attention_heads: int
    kv_heads: int
    head_dim: int
    v_head_dim: int
    vocabulary: int
    intermediate_size: int
    max_positions: int
    unknown: tuple[str, ...]


def read_dimensions(text: Config, evidence: TensorEvidence, weight_bytes: int) -> Dimensions:
    """Sizes from the language model's section `text`, else from tensors, else bounds from `weight_bytes`."""
    unknown: list[str] = []
    hidden = integer(text, "hidden_size", "n_embd", "d_model", "dim") or evidence.hidden_size
    layers = integer(text, "num_hidden_layers", "n_layer", "n_layers", "num_layers") or evidence.layers
    if not hidden or not layers:
        hidden, layers = _bounded_shape(text, hidden, layers, weight_bytes)
        unknown.append(
            "number of layers or hidden size: the KV cache is bounded from the size of the weights, "
            "as full multi-head attention in the deepest shape in use"
        )
    if layers > _MOST_LAYERS:
        raise EstimateError(f"its config.json says {layers} layers", f"At most {_MOST_LAYERS} are looked at.")
    vocabulary = integer(text, "vocab_size", "padded_vocab_size") or evidence.vocabulary
    if not vocabulary:
        vocabulary = _LARGEST_VOCABULARY
        unknown.append(f"vocabulary: bounded by {_LARGEST_VOCABULARY} entries")
    heads = integer(text, "num_attention_heads", "n_head", "n_heads", "num_heads")
    kv_heads = integer(text, *_KV_HEADS)
    if text.get("multi_query") and kv_heads is None:
        kv_heads = 1
    if kv_heads is None and (most := _most_kv_heads(text, heads or 0)):
        kv_heads = most
        unknown.append(f"KV heads: they differ from layer to layer, bounded by the most, {most}")
    head_dim = integer(text, "head_dim", "attention_head_dim", "hidden_size_per_head", "kv_channels")
    if not heads:
        # One head as wide as the model: exact for multi-head attention, an upper bound for everything else.
        heads, head_dim = 1, evidence.key_width or hidden
        kv_heads = 1
        if evidence.key_width is None:
            unknown.append(HEADS_UNKNOWN)
    head_dim = head_dim or hidden // heads
    if not kv_heads:
        kv_heads = evidence.key_width // head_dim if evidence.key_width else heads
    positions = integer(text, "max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "model_max_length")
    if not positions:
        positions = 8192
        unknown.append("longest context: taken as 8192 tokens")
    intermediate = _intermediate(text) or 4 * hidden
    return Dimensions(
        layers=layers,
        hidden_size=hidden,
        attention_heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        v_head_dim=integer(text, "v_head_dim") or head_dim,
        vocabulary=vocabulary,
        intermediate_size=intermediate,
        max_positions=positions,
        unknown=tuple(unknown),
    )


def _most_kv_heads(text: Config, heads: int) -> int:
    """Of a list with one number, or one group size (`block_configs`), for each layer; 0 where there is none."""
    lists = [text[name] for name in _KV_HEADS if isinstance(text.get(name), list)]
    counts = [count for layers in lists for count in layers if isinstance(count, int)]
    groups = [integer(block["attention"], "n_heads_in_group") for block in text.get("block_configs") or ()]
    return max([*counts, *(heads // (size or heads or 1) for size in groups)], default=0)


def _intermediate(text: Config) -> int | None:
    size = integer(text, "intermediate_size", "block_ff_dim", "ffn_hidden_size", "n_inner", "ffn_dim")
    if size and text.get("model_type") == "qwen":
        # The first Qwen names the two halves of its gate together.
        return size // 2
    if size and "block_ff_dim" in text and text.get("block_auto_adjust_ff_dim", True):
        size = int(2 * size / 3 * float(text.get("block_ffn_dim_multiplier") or 1))
        return round_up(size, integer(text, "block_multiple_of") or 256)
    return size


def _bounded_shape(text: Config, hidden: int | None, layers: int | None, weight_bytes: int) -> tuple[int, int]:
    """(hidden, layers) whose product is not below the model's, from 12 x layers x hidden^2 parameters as wide as stored."""
    if not weight_bytes:
        raise NothingKnownError
    width = weight_width(text, element_type_of(text))
    layer_parameters = max(weight_bytes, 1 << 20) / min(width.linear_bytes, width.expert_bytes) / 12
    if layers:
        return int((layer_parameters / layers) ** 0.5) + 1, layers
    if hidden:
        return hidden, min(int(layer_parameters / hidden**2) + 1, _DEEPEST)
    depth = (layer_parameters / _NARROWEST_HIDDEN_PER_LAYER**2) ** (1 / 3)
    return int(depth * _NARROWEST_HIDDEN_PER_LAYER) + 1, int(depth) + 1
