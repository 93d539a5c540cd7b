"""Write a tiny random Llama as a GGUF file: real enough for llama.cpp to load and to answer with nonsense."""

import struct
from array import array
from collections.abc import Iterator
from math import prod
from pathlib import Path
from random import Random

SEED = 20261124
WIDTH, HEADS, KV_HEADS, FEED_FORWARD, LAYERS, CONTEXT = 64, 4, 2, 128, 2, 512
F32, ALIGNMENT = 0, 32
UINT32, FLOAT32, STRING, ARRAY, INT32 = 4, 6, 8, 9, 5
# Kinds of tokens in llama.cpp.
NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6


def write_tiny_gguf(path: Path) -> None:
    """The whole model at ``path``, some 300 kB."""
    random, tokens = Random(SEED), list(_tokens())
    words = [text for text, _ in tokens]
    metadata = {
        "general.architecture": _string("llama"),
        "llama.context_length": _uint32(CONTEXT),
        "llama.embedding_length": _uint32(WIDTH),
        "llama.block_count": _uint32(LAYERS),
        "llama.feed_forward_length": _uint32(FEED_FORWARD),
        "llama.attention.head_count": _uint32(HEADS),
        "llama.attention.head_count_kv": _uint32(KV_HEADS),
        "llama.attention.layer_norm_rms_epsilon": _tagged(FLOAT32, struct.pack("<f", 1e-5)),
        "llama.rope.dimension_count": _uint32(WIDTH // HEADS),
        "tokenizer.ggml.model": _string("llama"),
        "tokenizer.ggml.tokens": _array(STRING, [_text(word) for word in words]),
        "tokenizer.ggml.scores": _array(FLOAT32, [struct.pack("<f", -float(at)) for at in range(len(words))]),
        "tokenizer.ggml.token_type": _array(INT32, [struct.pack("<i", kind) for _, kind in tokens]),
        "tokenizer.ggml.unknown_token_id": _uint32(0),
        "tokenizer.ggml.bos_token_id": _uint32(1),
        "tokenizer.ggml.eos_token_id": _uint32(2),
    }
    shapes = dict(_shapes(len(words)))
    head, data = [b"GGUF", struct.pack("<IQQ", 3, len(shapes), len(metadata))], bytearray()
    head += [_text(key) + value for key, value in metadata.items()]
    for name, shape in shapes.items():
        head.append(_text(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape))
        head.append(struct.pack("<IQ", F32, len(data)))
        numbers = [1.0] * shape[0] if len(shape) == 1 else [random.gauss(0.0, 0.1) for _ in range(prod(shape))]
        data += array("f", numbers).tobytes()
        data += bytes(-len(data) % ALIGNMENT)
    written = b"".join(head)
    path.write_bytes(written + bytes(-len(written) % ALIGNMENT) + data)


def _tokens() -> Iterator[tuple[str, int]]:
    yield from (("<unk>", UNKNOWN), ("<s>", CONTROL), ("</s>", CONTROL))
    yield from ((f"<0x{byte:02X}>", BYTE) for byte in range(256))
    # What a word begins with stands for the space before it.
    yield from ((text, NORMAL) for text in ("\u2581", "e", "t", "a", "o", "n", "\u2581the", "he", "in", "er"))


def _shapes(vocabulary: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Tensors by name; the fastest dimension comes first."""
    narrow = WIDTH // HEADS * KV_HEADS
    yield "token_embd.weight", (WIDTH, vocabulary)
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        yield f"{block}.attn_norm.weight", (WIDTH,)
        yield f"{block}.attn_q.weight", (WIDTH, WIDTH)
        yield f"{block}.attn_k.weight", (WIDTH, narrow)
        yield f"{block}.attn_v.weight", (WIDTH, narrow)
        yield f"{block}.attn_output.weight", (WIDTH, WIDTH)
        yield f"{block}.ffn_norm.weight", (WIDTH,)
        yield f"{block}.ffn_gate.weight", (WIDTH, FEED_FORWARD)
        yield f"{block}.ffn_up.weight", (WIDTH, FEED_FORWARD)
        yield f"{block}.ffn_down.weight", (FEED_FORWARD, WIDTH)
    yield "output_norm.weight", (WIDTH,)
    yield "output.weight", (WIDTH, vocabulary)


def _text(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def _tagged(kind: int, value: bytes) -> bytes:
    return struct.pack("<I", kind) + value


def _string(text: str) -> bytes:
    return _tagged(STRING, _text(text))


def _uint32(number: int) -> bytes:
    return _tagged(UINT32, struct.pack("<I", number))


def _array(kind: int, items: list[bytes]) -> bytes:
    return _tagged(ARRAY, struct.pack("<IQ", kind, len(items)) + b"".join(items))
