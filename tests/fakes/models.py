"""Models as their config.json says it, of well-known shapes and of no weight on disk."""

import json
from typing import Any

from studio.v1.agent_service_pb2 import ModelDescription
from studio_coordinator.plan.memory.facts import ModelFacts
from studio_coordinator.plan.memory.model import model_facts

# 8.03 billion parameters, 15 GiB in bfloat16.
LLAMA_8B: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}
# 70.6 billion parameters, 131 GiB.
LLAMA_70B = LLAMA_8B | {
    "hidden_size": 8192,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "intermediate_size": 28672,
}


def facts(config: dict[str, Any]) -> ModelFacts:
    return model_facts(config)


def description(config: dict[str, Any]) -> ModelDescription:
    """What an agent says of a directory that holds this config.json."""
    return ModelDescription(files={"config.json": json.dumps(config).encode()})
