"""What a config.json leaves out because it equals the default of its configuration class, by `model_type`.

Read from the configuration classes of transformers 5.24. These are properties of a file format, not of any model: nothing
here is fitted, and a key that is present in the file always wins.
"""

from collections.abc import Mapping
from typing import Any

_LLAMA: dict[str, Any] = {"vocab_size": 32000, "tie_word_embeddings": False}
_MISTRAL = _LLAMA | {"num_key_value_heads": 8}
_QWEN = {"vocab_size": 151936, "use_sliding_window": False, "tie_word_embeddings": False}
_TIED = {"tie_word_embeddings": True}
_LATENT = {
    "tie_word_embeddings": False, "kv_lora_rank": 512, "q_lora_rank": 1536, "qk_rope_head_dim": 64,
    "qk_nope_head_dim": 128, "v_head_dim": 128,
}  # fmt: skip

CONFIG_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "llama": _LLAMA,
    "mistral": _MISTRAL,
    "ministral": _MISTRAL,
    "mixtral": _MISTRAL | {"num_local_experts": 8, "num_experts_per_tok": 2},
    "qwen2": _QWEN,
    "qwen2_moe": _QWEN | {"num_experts": 60, "num_experts_per_tok": 4, "moe_intermediate_size": 1408},
    "qwen3": _QWEN | {"head_dim": 128},
    "qwen3_moe": _QWEN | {"num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 768},
    "qwen3_next": {
        "vocab_size": 151936, "tie_word_embeddings": False, "head_dim": 256, "full_attention_interval": 4,
        "linear_conv_kernel_dim": 4, "linear_key_head_dim": 128, "linear_value_head_dim": 128,
        "linear_num_key_heads": 16, "linear_num_value_heads": 32, "attn_output_gate": True,
    },
    "qwen3_5_text": {
        "vocab_size": 248320, "tie_word_embeddings": False, "head_dim": 256, "full_attention_interval": 4,
        "linear_conv_kernel_dim": 4, "linear_key_head_dim": 128, "linear_value_head_dim": 128,
        "linear_num_key_heads": 16, "linear_num_value_heads": 32, "attn_output_gate": True,
    },
    "gemma": _TIED | {"vocab_size": 256000, "head_dim": 256},
    "gemma2": _TIED | {
        "vocab_size": 256000, "head_dim": 256, "num_attention_heads": 8, "num_key_value_heads": 4,
        "sliding_window": 4096, "sliding_window_pattern": 2,
    },
    "gemma3_text": _TIED | {
        "vocab_size": 262208, "head_dim": 256, "num_attention_heads": 8, "num_key_value_heads": 4,
        "sliding_window": 4096, "sliding_window_pattern": 6, "rope_local_base_freq": 10000, "max_position_embeddings": 131072,
    },
    "gemma3n_text": _TIED | {
        "vocab_size": 262400, "head_dim": 256, "num_attention_heads": 8, "num_key_value_heads": 2,
        "sliding_window": 512, "sliding_window_pattern": 5, "num_kv_shared_layers": 15, "rope_local_base_freq": 10000,
        "hidden_size_per_layer_input": 256, "vocab_size_per_layer_input": 262144,
    },
    "gpt_oss": {
        "vocab_size": 201088, "head_dim": 64, "num_attention_heads": 64, "num_key_value_heads": 8,
        "sliding_window": 128, "sliding_window_pattern": 2, "num_experts_per_tok": 4, "tie_word_embeddings": False,
    },
    "phi3": {"vocab_size": 32064, "tie_word_embeddings": False},
    "cohere": _TIED | {"vocab_size": 256000},
    "cohere2": _TIED | {"vocab_size": 256000, "sliding_window": 4096, "sliding_window_pattern": 4},
    "granite": _LLAMA,
    "granitemoe": _LLAMA,
    "deepseek_v2": _LATENT | {"vocab_size": 102400, "n_shared_experts": 2},
    "deepseek_v3": _LATENT | {"vocab_size": 129280, "n_shared_experts": 1, "first_k_dense_replace": 3},
    "olmo3": {"vocab_size": 50304, "sliding_window": 4096, "sliding_window_pattern": 4, "tie_word_embeddings": False},
    "exaone4": {"vocab_size": 102400, "sliding_window_pattern": 4, "tie_word_embeddings": False},
    "gpt2": _TIED | {"vocab_size": 50257},
    "gpt_neo": _TIED,
    "gpt_bigcode": _TIED | {"multi_query": True},
    "bloom": _TIED | {"vocab_size": 250880},
    "mpt": _TIED,
    "opt": _TIED,
    "falcon": _TIED | {"vocab_size": 65024, "multi_query": True},
    "starcoder2": _TIED | {"vocab_size": 49152},
    "smollm3": _TIED | {"vocab_size": 128256, "num_key_value_heads": 4, "use_sliding_window": False},
    "glm4_moe": {"vocab_size": 151552, "tie_word_embeddings": False, "first_k_dense_replace": 1, "n_shared_experts": 1},
    "llama4_text": {
        "vocab_size": 202048, "head_dim": 128, "tie_word_embeddings": False, "attention_chunk_size": 8192,
        "num_experts_per_tok": 1, "n_shared_experts": 1, "chunk_pattern": 4,
    },
}  # fmt: skip

# Feed-forward blocks with two matrices in place of the gated three.
UNGATED_MODEL_TYPES = frozenset(
    {
        "starcoder2", "gpt2", "gpt_neo", "gpt_neox", "gpt_bigcode", "gptj", "codegen", "bloom", "mpt", "opt", "phi", "falcon",
        "nemotron", "nemotron_h",
    }
)  # fmt: skip
# No feed-forward blocks at all.
STATE_ONLY_MODEL_TYPES = frozenset({"mamba", "mamba2", "falcon_mamba"})
