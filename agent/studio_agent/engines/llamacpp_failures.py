"""How llama.cpp's server fails (b11434): a table. Wrappers come last."""

from studio_agent.engines.failures import rule

LLAMACPP_FAILURES = (
    rule(
        "weights_oom",
        r"unable to allocate \S+ buffer|allocating (?P<size>[\d.]+ MiB) on device \d+: \w+ failed: out of memory",
        "The model does not fit into the GPU's memory.",
        "Let part of it stay on the CPU (extra_args: n-gpu-layers), or use a smaller quantization or more GPUs.",
        before="load_tensors: offloaded",
    ),
    rule(
        "kv_none",
        r"failed to allocate buffer for (?:kv|rs) cache|failed to allocate compute (?:pp|tg)? ?buffers"
        r"|allocating [\d.]+ MiB on device \d+: \w+ failed: out of memory",
        "After the weights there is too little memory for the KV cache.",
        "Lower args.max_model_len or args.max_num_seqs, or set args.kv_cache_dtype: q8_0.",
    ),
    rule(
        "port_in_use",
        r"couldn't bind HTTP server socket, hostname: \S+, port: (?P<port>\d+)",
        "Port {port} was taken by another process.",
        "It is tried again on another port.",
        retryable=True,
    ),
    rule(
        "arch_unsupported",
        r"(?:unknown|unsupported) model architecture: '(?P<name>[^']*)'",
        "This llama.cpp does not know the architecture {name}.",
        "Try a newer build, or another engine.",
    ),
    rule(
        "hf_auth",
        r"(?:HTTP|status)\D{0,20}(?:401|403)\b|gated",
        "The model hub refused access to the model.",
        "Accept the model's licence on the hub, and give the host a token (env.HF_TOKEN).",
    ),
    rule(
        "hf_missing",
        r"failed to (?:open|load) (?:GGUF|file)|failed to download model|error: failed to get manifest",
        "There is no such model, or it cannot be fetched.",
        "Check model.source: hf://OWNER/NAME:QUANT, or path:// and a GGUF file.",
    ),
    rule(
        "model_damaged",
        r"corrupted model|invalid magic|missing tensor|is not within the file bounds|failed to read magic"
        r"|found tensors with invalid data|invalid split (?:file|count)",
        "The model's file is damaged or incomplete.",
        "Fetch it again.",
    ),
    rule(
        "disk",
        r"No space left on device",
        "The disk is full.",
        "Free space where the agent keeps models and caches.",
    ),
    rule(
        "bad_argument",
        r"(?P<said>error: invalid argument: \S+|error while handling argument \"[^\"]*\".*|error: unknown value for .*)",
        "The engine does not take its arguments: {said}",
        "Check extra_args against this build.",
    ),
    rule(
        "gpu_fault",
        r"CUDA error: (?P<fault>an illegal memory access|unspecified launch failure|uncorrectable ECC)",
        "The GPU reported a fault.",
        "Look for XID errors in the kernel log; drain the host if they return.",
        retryable=True,
    ),
    rule(
        "environment_broken",
        r"error while loading shared libraries: (?P<name>\S+):",
        "The engine's program lacks the library {name}.",
        "Install it, or build llama.cpp anew on this host.",
    ),
    rule(
        "engine_start",
        r"exiting due to model loading error|failed to load model|failed to create_context",
        "The engine could not load the model.",
        "The cause is in the line shown, or above it in the log.",
        wrapper=True,
    ),
    rule(
        "engine_died",
        r"GGML_ASSERT\(|exiting due to HTTP server error",
        "The engine died while it served.",
        "The cause is in the line shown.",
        retryable=True,
        wrapper=True,
    ),
)
