"""The header of a GGUF file: key-value metadata and the list of tensors. The tensors are never read.

Layout (GGUF 2 and 3, little endian): magic, version u32, tensor count u64, pair count u64, pairs (string key, u32 type, value),
tensors (string name, u32 dimensions, u64 each, u32 type, u64 offset). A tensor's bytes follow from its type's block size.
"""

import struct
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

from studio_coordinator.model_facts.errors import ModelUnreadableError
from studio_coordinator.plan.memory.tensors import StoredTensor

_MAGIC = b"GGUF"
_STRING, _ARRAY = 8, 9
_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
# Type number: name, weights of a block, bytes of a block (ggml.h).
_TYPES = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22), 7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 36), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110), 12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292), 16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50), 20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82), 23: ("IQ4_XS", 256, 136), 24: ("I8", 1, 1), 25: ("I16", 1, 2),
    26: ("I32", 1, 4), 27: ("I64", 1, 8), 28: ("F64", 1, 8), 29: ("IQ1_M", 256, 56), 30: ("BF16", 1, 2),
    39: ("MXFP4", 32, 17),
}  # fmt: skip
# Metadata of the language model, by the name that a config.json gives it.
_KEYS = {
    "block_count": "num_hidden_layers", "embedding_length": "hidden_size", "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads", "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim", "context_length": "max_position_embeddings", "vocab_size": "vocab_size",
    "attention.sliding_window": "sliding_window", "expert_count": "num_local_experts",
    "expert_used_count": "num_experts_per_tok", "expert_feed_forward_length": "moe_intermediate_size",
    "attention.kv_lora_rank": "kv_lora_rank", "rope.dimension_count": "qk_rope_head_dim",
}  # fmt: skip


def read_gguf(path: Path) -> tuple[dict[str, Any], tuple[StoredTensor, ...]]:
    """(metadata in the words of a config.json, tensors) of the file at `path`."""
    with path.open("rb") as file:
        return parse_gguf(file, str(path))


def parse_gguf(file: BinaryIO, name: str) -> tuple[dict[str, Any], tuple[StoredTensor, ...]]:
    """The same of an open file, of which only the header need be there; `name` is for the refusal."""
    try:
        if file.read(4) != _MAGIC:
            raise ModelUnreadableError(f"{name} is not a GGUF file", "Download it again.")
        _scalar(file, "<I")
        tensor_count, pair_count = _scalar(file, "<Q"), _scalar(file, "<Q")
        metadata = {}
        for _ in range(pair_count):
            key = _string(file)
            metadata[key] = _value(file, _scalar(file, "<I"))
        tensors = tuple(_tensor(file, name) for _ in range(tensor_count))
    except (struct.error, UnicodeDecodeError, KeyError) as error:
        raise ModelUnreadableError(f"the GGUF header of {name} is damaged", "Download it again.") from error
    return _as_config(metadata, tensors), tensors


def _tensor(file: BinaryIO, file_name: str) -> StoredTensor:
    name = _string(file)
    shape = tuple(_scalar(file, "<Q") for _ in range(_scalar(file, "<I")))
    number = _scalar(file, "<I")
    _scalar(file, "<Q")
    if number not in _TYPES:
        raise ModelUnreadableError(f"{file_name} holds tensors of GGUF type {number}, which is not known")
    type_name, weights, size = _TYPES[number]
    # GGUF lists the fastest dimension first.
    return StoredTensor(name, type_name, shape[::-1], prod(shape) // weights * size)


def _as_config(metadata: dict[str, Any], tensors: tuple[StoredTensor, ...]) -> dict[str, Any]:
    architecture = str(metadata.get("general.architecture", ""))
    config: dict[str, Any] = {"architectures": [f"gguf:{architecture}"], "model_type": f"gguf-{architecture}"}
    for key, name in _KEYS.items():
        value = metadata.get(f"{architecture}.{key}")
        if value is not None:
            config[name] = value
    if "kv_lora_rank" not in config:
        config.pop("qk_rope_head_dim", None)
    if "vocab_size" not in config:
        config["vocab_size"] = len(metadata.get("tokenizer.ggml.tokens", ())) or None
    config["tie_word_embeddings"] = not any(tensor.name.startswith("output.") for tensor in tensors)
    config["torch_dtype"] = "float16"
    return {key: value for key, value in config.items() if value is not None}


def _value(file: BinaryIO, kind: int) -> Any:
    if kind == _STRING:
        return _string(file)
    if kind == _ARRAY:
        item, count = _scalar(file, "<I"), _scalar(file, "<Q")
        return [_value(file, item) for _ in range(count)]
    return _scalar(file, _SCALARS[kind])


def _string(file: BinaryIO) -> str:
    length = _scalar(file, "<Q")
    text = file.read(length)
    if len(text) < length:
        raise struct.error("the file ends inside a string")
    return text.decode()


def _scalar(file: BinaryIO, layout: str) -> Any:
    packed = struct.Struct(layout)
    return packed.unpack(file.read(packed.size))[0]
