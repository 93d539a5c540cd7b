"""What is known of a model before it is loaded.

A decoder layer keeps zero or more *caches* per request: keys and values of attention, a latent vector (MLA), or the state
of a linear-attention or Mamba layer. Shapes are those of the whole model; division by tensor parallelism comes later.
"""

from dataclasses import dataclass, field
from typing import TypeAlias

from studio_coordinator.plan.memory.parts import Source


@dataclass(frozen=True)
class AttentionCache:
    """Keys and values of one attention layer. `window` > 0: only so many last tokens; `chunk` > 0: local chunks."""

    kv_heads: int
    head_dim: int
    v_head_dim: int
    window: int = 0
    chunk: int = 0


@dataclass(frozen=True)
class LatentCache:
    """The compressed vector of one MLA layer, the same on every tensor-parallel rank. `index_dim`: sparse indexer."""

    latent_dim: int
    index_dim: int = 0


@dataclass(frozen=True)
class StateCache:
    """Fixed state of one Mamba or linear-attention layer, per request.

    A convolution window of (`conv_channels` + `groups` x `group_channels`) x (`conv_kernel` - 1) elements and a recurrent
    state of `state_elements`; both are divided by tensor parallelism, and groups that cannot be divided are repeated.
    `state_type` "" means the type of the model.
    """

    conv_channels: int
    conv_kernel: int
    state_elements: int
    state_type: str = ""
    groups: int = 0
    group_channels: int = 0


Cache: TypeAlias = AttentionCache | LatentCache | StateCache


@dataclass(frozen=True)
class LayerWeights:
    """Bytes of one decoder layer, by how tensor parallelism treats them.

    `split_bytes` are divided; `key_value_bytes` too, but only down to one KV head; `whole_bytes` (norms, router, latent
    projections) are on every rank; `expert_bytes` are divided by expert parallelism as well.
    """

    split_bytes: int
    key_value_bytes: int = 0
    whole_bytes: int = 0
    expert_bytes: int = 0

    @property
    def bytes(self) -> int:
        """All of them."""
        return self.split_bytes + self.key_value_bytes + self.whole_bytes + self.expert_bytes


@dataclass(frozen=True)
class WeightFacts:
    """Bytes of the parameters as they are stored, by where an engine puts them."""

    embedding_bytes: int
    head_bytes: int
    layers: tuple[LayerWeights, ...]
    # Vision or audio towers, projectors, embeddings for each layer: on the first pipeline stage.
    tower_bytes: int = 0
    source: Source = Source.FORMULA
    # Relative error of the sum.
    relative_error: float = 0.01

    @property
    def bytes(self) -> int:
        """All of them."""
        return self.embedding_bytes + self.head_bytes + self.tower_bytes + sum(layer.bytes for layer in self.layers)


@dataclass(frozen=True)
class Experts:
    """Routed experts of a mixture-of-experts model."""

    count: int
    per_token: int
    intermediate_size: int


@dataclass(frozen=True)
class ModelFacts:
    """Everything the estimate needs of a model. `unknown` names what had to be bounded, in the operator's words."""

    architecture: str
    hidden_size: int
    attention_heads: int
    kv_heads: int
    vocabulary: int
    intermediate_size: int
    model_type: str
    element_type: str
    max_positions: int
    caches: tuple[tuple[Cache, ...], ...]
    weights: WeightFacts
    experts: Experts | None = None
    quantization: str = ""
    # Of the KV cache, where the checkpoint says it; an engine's `auto` follows it.
    cache_type: str = ""
    rope_elements: int = 0
    multimodal: bool = False
    unknown: tuple[str, ...] = field(default=())

    @property
    def layers(self) -> int:
        """Number of decoder layers."""
        return len(self.caches)

    @property
    def hybrid(self) -> bool:
        """Whether some layers keep a fixed state instead of keys and values."""
        return any(isinstance(cache, StateCache) for layer in self.caches for cache in layer)

    @property
    def attends(self) -> bool:
        """Whether any layer has attention."""
        return any(not isinstance(cache, StateCache) for layer in self.caches for cache in layer)

    @property
    def latent(self) -> bool:
        """Whether attention is multi-head latent attention."""
        return any(isinstance(cache, LatentCache) for layer in self.caches for cache in layer)
