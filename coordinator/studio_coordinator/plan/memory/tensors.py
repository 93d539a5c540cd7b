"""From the names, types and shapes of stored tensors to where their bytes go. Exact: nothing is counted, only sorted."""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from studio_coordinator.plan.memory.dimensions import TensorEvidence
from studio_coordinator.plan.memory.facts import LayerWeights, WeightFacts
from studio_coordinator.plan.memory.parts import Source

_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks|blk)\.(\d+)\.")
_TOWER = re.compile(r"vision|visual|audio|image|projector|patch_|^v\.|^mm\.|connector")
_EMBEDDING = re.compile(r"(?:embed_tokens|wte|word_embeddings|tok_embeddings|token_embd|embed_in|embeddings)\.weight$")
_HEAD = re.compile(r"(?:^|\.)(?:lm_head|embed_out|output)\.")
_EXPERT = re.compile(r"\.experts\.|_exps\.|\.experts_")
_KEY_VALUE = re.compile(r"\.(?:k_proj|v_proj|attn_k|attn_v)\.")
_WHOLE = re.compile(
    r"norm|kv_a_proj|q_a_proj|kv_b_proj_scale|\.gate\.weight|router|gate_inp|indexer|e_score_correction"
)


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of a checkpoint. `bytes` as stored, scales and zero points are tensors of their own."""

    name: str
    element_type: str
    shape: tuple[int, ...]
    bytes: int


def tensor_evidence(tensors: Iterable[StoredTensor]) -> TensorEvidence:
    """Sizes of the model that show in the tensors."""
    layers: int | None = None
    embedding: tuple[int, ...] = ()
    key_width: int | None = None
    has_head = False
    for tensor in tensors:
        if _TOWER.search(tensor.name):
            continue
        found = _LAYER.search(tensor.name)
        if found:
            layers = max(layers or 0, int(found.group(1)) + 1)
            if tensor.name.endswith("k_proj.weight") and not _quantized(tensor):
                key_width = tensor.shape[0]
        elif _EMBEDDING.search(tensor.name) and len(tensor.shape) == 2:  # noqa: PLR2004 - entries x hidden
            embedding = tensor.shape
        elif _HEAD.search(tensor.name):
            has_head = True
    return TensorEvidence(
        layers=layers,
        hidden_size=embedding[1] if embedding else None,
        vocabulary=embedding[0] if embedding else None,
        key_width=key_width,
        has_head=has_head,
    )


def stored_weights(tensors: Iterable[StoredTensor], layers: int, *, tied: bool) -> WeightFacts:
    """Bytes by place. Layers past `layers` (multi-token prediction heads) and a tied head are not loaded."""
    places: dict[str, int] = defaultdict(int)
    per_layer: list[dict[str, int]] = [defaultdict(int) for _ in range(layers)]
    for tensor in tensors:
        found = _LAYER.search(tensor.name)
        if _TOWER.search(tensor.name):
            places["tower"] += tensor.bytes
        elif tensor.name.startswith("mtp.") or ".mtp." in tensor.name:
            continue
        elif found:
            if int(found.group(1)) < layers:
                per_layer[int(found.group(1))][_treatment(tensor.name)] += tensor.bytes
        elif _HEAD.search(tensor.name):
            places["head"] += 0 if tied else tensor.bytes
        elif _EMBEDDING.search(tensor.name):
            places["embedding"] += tensor.bytes
        elif per_layer:
            per_layer[-1]["whole"] += tensor.bytes
    return WeightFacts(
        embedding_bytes=places["embedding"],
        head_bytes=places["head"],
        tower_bytes=places["tower"],
        layers=tuple(
            LayerWeights(layer["split"], layer["key_value"], layer["whole"], layer["expert"]) for layer in per_layer
        ),
        source=Source.MEASURED,
        relative_error=0.005,
    )


def _treatment(name: str) -> str:
    if _EXPERT.search(name) and "shared" not in name:
        return "expert"
    if _WHOLE.search(name):
        return "whole"
    return "key_value" if _KEY_VALUE.search(name) else "split"


def _quantized(tensor: StoredTensor) -> bool:
    return tensor.element_type.lower() in {"i32", "i8", "u8", "f4"}
