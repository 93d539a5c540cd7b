"""The bytes that a replica may use on each GPU, in the terms of each engine.

A plan gives bytes. vLLM wants a share of the *whole* device, SGLang a share of what is *free* when it starts, and that only for
weights and KV cache; llama.cpp wants to know what to leave free, TabbyAPI how much it gets. Every conversion rounds towards less.
"""

import math

GIB = 1024**3
MIB = 1024**2
# SGLang's share covers weights and KV cache. What else it needs, it keeps out of its own default share by this rule: a constant,
# 1.5 MiB for each token of a prefill chunk, and 1 GiB for eight GPUs.
SGLANG_CONSTANT_MIB = 512
SGLANG_MIB_PER_TOKEN = 1.5
SGLANG_SMALLEST_CHUNK_TOKENS = 2048
SGLANG_MIB_PER_GPU = 128
# The length of a chunk where nobody says one: for devices below so many GiB.
SGLANG_CHUNKS = ((20, 2048), (60, 4096), (160, 8192))
SGLANG_LARGEST_CHUNK_TOKENS = 16384
# Graphs and what the rule leaves out, as part of the whole.
SGLANG_GRAPHS_SHARE = 0.02


def share_of_total(allowed_bytes: int, total_bytes: int) -> float:
    """The `gpu-memory-utilization` of vLLM: 0 to 1 of the whole device, in steps of 0.0001."""
    return _rounded_down(allowed_bytes / total_bytes)


def static_share_of_free(
    allowed_bytes: int, free_bytes: int, gpus: int, total_bytes: int = 0, chunk_tokens: int = 0
) -> float:
    """SGLang's `mem-fraction-static`: the part of ``allowed_bytes`` for weights and KV cache, as a share of what is free.

    ``gpus`` is how many share the model; ``chunk_tokens`` the length of a prefill chunk, 0 where the engine decides by the
    device's ``total_bytes``. 0.0 when nothing is left for weights and cache.
    """
    chunk = max(chunk_tokens or _default_chunk_tokens(total_bytes or free_bytes), SGLANG_SMALLEST_CHUNK_TOKENS)
    reserved = (SGLANG_CONSTANT_MIB + SGLANG_MIB_PER_TOKEN * chunk + SGLANG_MIB_PER_GPU * gpus) * MIB
    reserved += SGLANG_GRAPHS_SHARE * allowed_bytes
    return _rounded_down(max(0.0, allowed_bytes - reserved) / free_bytes)


def _default_chunk_tokens(total_bytes: int) -> int:
    return next((tokens for below, tokens in SGLANG_CHUNKS if total_bytes < below * GIB), SGLANG_LARGEST_CHUNK_TOKENS)


def left_free_mib(allowed_bytes: int, free_bytes: int) -> int:
    """llama.cpp's `fit-target`: MiB of a device that are to stay free."""
    return max(0, math.ceil((free_bytes - allowed_bytes) / MIB))


def gib(allowed_bytes: int) -> float:
    """TabbyAPI's `gpu_split`: GiB on each device, in hundredths."""
    return int(allowed_bytes / GIB * 100) / 100


def _rounded_down(share: float) -> float:
    return int(share * 10_000) / 10_000
