"""Tiny random models of several architectures, made on the spot: `ENGINE_PYTHON tiny_architectures.py TOKENIZER_DIR OUT_DIR`.

Runs with the engine's own Python, where transformers and torch live. Each model gets a directory named after its kind; the
tokenizer is copied from an existing tiny model.
"""

import shutil
import sys
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM

SIZES = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "vocab_size": 512,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 2048,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
MODELS = {
    "gqa": {"model_type": "llama", "num_hidden_layers": 3, "tie_word_embeddings": False},
    "tied": {"model_type": "qwen3", "num_hidden_layers": 2, "tie_word_embeddings": True, "num_key_value_heads": 1},
    "window-hybrid": {
        "model_type": "gemma3_text",
        "num_hidden_layers": 14,
        "sliding_window": 256,
        "layer_types": (["sliding_attention"] * 5 + ["full_attention"]) * 2 + ["sliding_attention"] * 2,
    },
    "experts": {
        "model_type": "qwen3_moe",
        "num_hidden_layers": 2,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 64,
    },
    "mla": {
        "model_type": "deepseek_v2",
        "num_hidden_layers": 2,
        "num_key_value_heads": 4,
        "head_dim": None,
        "kv_lora_rank": 512,
        "q_lora_rank": None,
        "qk_rope_head_dim": 64,
        "qk_nope_head_dim": 128,
        "v_head_dim": 128,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 64,
        "n_shared_experts": 1,
        "first_k_dense_replace": 1,
        "topk_method": "greedy",
        "n_group": 1,
        "topk_group": 1,
    },
    "state-hybrid": {
        "model_type": "qwen3_next",
        "num_hidden_layers": 8,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "linear_key_head_dim": 128,
        "linear_value_head_dim": 128,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 64,
        "shared_expert_intermediate_size": 64,
    },
}


def main() -> None:
    tokenizer, out = Path(sys.argv[1]), Path(sys.argv[2])
    for kind, keys in MODELS.items():
        torch.manual_seed(7)
        sizes = {key: value for key, value in (SIZES | keys).items() if key != "model_type" and value is not None}
        config = AutoConfig.for_model(keys["model_type"], **sizes)
        model = AutoModelForCausalLM.from_config(config).to(torch.bfloat16)
        model.save_pretrained(out / kind)
        for file in tokenizer.glob("*token*"):
            shutil.copy(file, out / kind / file.name)


if __name__ == "__main__":
    main()
