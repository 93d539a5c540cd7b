"""Upstream's `extra_args`, by what they are to us: words of our own, gone, or not a recipe's to say.

Written as flags are: lower case, with dashes.
"""

from collections.abc import Mapping

# Flags with a typed argument here, by engine.
WHOLE: Mapping[str, Mapping[str, str]] = {
    "vllm": {
        "max-num-batched-tokens": "max_num_batched_tokens",
        "data-parallel-size": "data_parallel",
        "seed": "seed",
        "kv-cache-memory-bytes": "kv_cache_memory_bytes",
    },
    "sglang": {
        "chunked-prefill-size": "max_num_batched_tokens",
        "dp-size": "data_parallel",
        "random-seed": "seed",
    },
    "llamacpp": {"ctx-size": "max_model_len", "batch-size": "max_num_batched_tokens", "seed": "seed"},
    "tabbyapi": {
        "max-seq-len": "max_model_len",
        "max-batch-size": "max_num_seqs",
        "chunk-size": "max_num_batched_tokens",
    },
}
SWITCHES: Mapping[str, Mapping[str, str]] = {
    "vllm": {
        "enable-prefix-caching": "prefix_caching",
        "enable-chunked-prefill": "chunked_prefill",
        "enforce-eager": "enforce_eager",
        "enable-expert-parallel": "expert_parallel",
        "enable-expert-parallelism": "expert_parallel",
        "enable-sleep-mode": "sleep_mode",
    },
}
# The one switch that upstream turned off where it said false.
HONEST_SWITCH = "enable-expert-parallelism"
TEXTS: Mapping[str, Mapping[str, str]] = {
    "vllm": {"tokenizer": "tokenizer", "load-format": "load_format", "chat-template": "chat_template"},
    "sglang": {"tokenizer-path": "tokenizer", "load-format": "load_format", "chat-template": "chat_template"},
    "llamacpp": {"chat-template-file": "chat_template"},
    "tabbyapi": {"prompt-template": "chat_template"},
}

# JSON text is read in these, as upstream did.
JSON_TEXT = frozenset({"speculative-config", "default-chat-template-kwargs"})

NOT_IN_TODAYS_VLLM = "today's vLLM has no such flag"
# Of vLLM; other engines never got them.
GONE: Mapping[str, str] = {
    "use-v2-block-manager": NOT_IN_TODAYS_VLLM,
    "max-paddings": NOT_IN_TODAYS_VLLM,
    "quantization-param-path": NOT_IN_TODAYS_VLLM,
    "spec-decoding-acceptance-method": NOT_IN_TODAYS_VLLM,
    "typical-acceptance-sampler-posterior-threshold": NOT_IN_TODAYS_VLLM,
    "typical-acceptance-sampler-posterior-alpha": NOT_IN_TODAYS_VLLM,
    "lora-extra-vocab-size": NOT_IN_TODAYS_VLLM,
    "long-lora-scaling-factors": NOT_IN_TODAYS_VLLM,
    "swap-space": "today's vLLM does not swap requests to the host's memory",
    "calculate-kv-scales": "scales come from the checkpoint",
    "num-lookahead-slots": NOT_IN_TODAYS_VLLM,
    "guided-decoding-backend": "structured outputs choose their backend themselves",
    "disable-log-requests": "requests are not logged unless that is asked for",
    "disable-frontend-multiprocessing": "the agent looks after the engine's processes",
}
# Together they are one typed argument now.
SPECULATIVE: Mapping[str, str] = {
    "speculative-model": "model",
    "num-speculative-tokens": "num_speculative_tokens",
    "speculative-draft-tensor-parallel-size": "draft_tensor_parallel_size",
    "ngram-prompt-lookup-max": "prompt_lookup_max",
    "ngram-prompt-lookup-min": "prompt_lookup_min",
}

AGENTS = "the agent sets it"
NOT_A_RECIPES: Mapping[str, str] = {
    "host": AGENTS,
    "port": AGENTS,
    "model": "is model_path",
    "served-model-name": "is the deployment's name",
    "api-key": "engines listen where only the gateway reaches them; keys are the gateway's: studio keys create",
    "hf-token": "a secret: give the agent a token file",
    "ssl-keyfile": AGENTS,
    "ssl-certfile": AGENTS,
    "ssl-ca-certs": AGENTS,
    "docker-image": "engines run from an environment or a program: engine.version or engine.path",
    "docker-container": "engines run from an environment or a program: engine.version or engine.path",
    "launch-command": "the command is made from the recipe, without a shell",
    "custom-command": "the command is made from the recipe, without a shell",
    "mlx-python": "there is no MLX engine here",
    "cuda-visible-devices": "GPUs are chosen by the scheduler, or by UUID in the deployment: placement.gpus",
    "visible-devices": "GPUs are chosen by the scheduler, or by UUID in the deployment: placement.gpus",
    "hip-visible-devices": "GPUs are chosen by the scheduler, or by UUID in the deployment: placement.gpus",
    "rocr-visible-devices": "GPUs are chosen by the scheduler, or by UUID in the deployment: placement.gpus",
}
# Never handed to an engine, nor meant to be.
NOTES = frozenset({"status", "metadata", "benchmark-notes"})
