"""How vLLM fails (0.32 and 0.33): a table. The order matters only between rows that match the same line, and for wrappers."""

from studio_agent.engines.failures import rule
from studio_agent.engines.python_failures import PYTHON_FAILURES

VLLM_FAILURES = (
    rule(
        "weights_oom",
        r"Failed to load model - not enough GPU memory",
        "The weights do not fit into the GPU's memory.",
        "Use more GPUs (args.tensor_parallel), a larger GPU, or a quantized model.",
    ),
    rule(
        "weights_oom",
        r"(?:CUDA|HIP) out of memory\. Tried to allocate (?P<size>[\d.]+ \w+)",
        "The weights do not fit into the GPU's memory: {size} more were needed.",
        "Use more GPUs (args.tensor_parallel), a larger GPU, or a quantized model.",
        before="Model loading took",
    ),
    rule(
        "graph_oom",
        r"(?:CUDA|HIP) out of memory\. Tried to allocate (?P<size>[\d.]+ \w+)",
        "The GPU's memory ran out while graphs were captured: {size} more were needed.",
        "Lower resources.gpu.memory or args.max_num_seqs, or set args.enforce_eager.",
        after="Capturing CUDA graphs",
        before="Graph capturing finished",
    ),
    rule(
        "memory_oom",
        r"(?:CUDA|HIP) out of memory\. Tried to allocate (?P<size>[\d.]+ \w+)",
        "The GPU's memory ran out after the weights were loaded: {size} more were needed.",
        "Lower args.max_num_batched_tokens or args.max_num_seqs.",
        after="Model loading took",
    ),
    rule(
        "util_too_high",
        r"Free memory on device .*?\((?P<free>[\d.]+)/(?P<total>[\d.]+) GiB\).*less than desired GPU memory utilization",
        "Only {free} of {total} GiB of the GPU were free, less than the engine was told to use.",
        "See which other process holds memory on this GPU (`nvidia-smi`), or ask for less.",
        retryable=True,
    ),
    rule(
        "cpu_memory",
        r"Available memory on node \S+ \((?P<free>[^)]*)\).*less than desired CPU memory",
        "The host has too little free memory for the engine: {free}.",
        "Free memory on the host, or set a smaller args.kv_cache_memory_bytes.",
    ),
    rule(
        "kv_none",
        r"No available memory for the cache blocks",
        "After the weights there is no memory left for the KV cache.",
        "Raise resources.gpu.memory, use more GPUs, or lower args.max_num_seqs.",
    ),
    rule(
        "mamba_blocks",
        r"exceeds (?:the )?available Mamba cache blocks \((?P<blocks>\d+)\)",
        "More sequences are allowed than the model's state cache has room for ({blocks}).",
        "Set args.max_num_seqs to that number or less.",
    ),
    rule(
        "kv_auto_failed",
        r"Cannot auto-fit max_model_len",
        "Not even a short context fits into the memory that is left.",
        "Raise resources.gpu.memory, or use more GPUs.",
    ),
    rule(
        "kv_too_small",
        r"To serve at least one request with the model's max seq len \((?P<length>\d+)\)"
        r".*?estimated maximum model length is (?P<fits>\d+)",
        "A context of {length} tokens does not fit into the KV cache; {fits} would.",
        "Set args.max_model_len to at most the length that fits, or to `auto`.",
    ),
    rule(
        "kv_too_small",
        r"To serve at least one request with the model's max seq len",
        "The model's whole context does not fit into the KV cache.",
        "Set args.max_model_len lower, or to `auto`.",
    ),
    rule(
        "neighbour_changed",
        r"Error in memory profiling\. Initial free memory",
        "Another process took or freed memory on the GPU while the engine measured it.",
        "It is tried again; keep other programs off this GPU while engines start.",
        retryable=True,
    ),
    rule(
        "len_too_big",
        r"max_model_len \((?P<length>\d+)\) is greater than the derived max_model_len",
        "The model's own context is shorter than {length} tokens.",
        "Lower args.max_model_len.",
    ),
    rule(
        "world_size",
        r"World size \((?P<wanted>\d+)\) is larger than the number of available GPUs \((?P<found>\d+)\)",
        "{wanted} GPUs are wanted, but the engine sees {found}.",
        "Lower args.tensor_parallel or args.pipeline_parallel, or assign more GPUs.",
    ),
    rule(
        "heads",
        r"Total number of attention heads \((?P<heads>\d+)\) must be divisible by tensor parallel size \((?P<size>\d+)\)",
        "{heads} attention heads cannot be shared by {size} GPUs.",
        "Choose args.tensor_parallel so that it divides the number of heads.",
    ),
    *PYTHON_FAILURES,
    rule(
        "config_invalid",
        r"^Value error, (?P<said>.+?)(?: \[type=.*)?$",
        "The engine refused its configuration: {said}",
        "Mend the recipe's args or extra_args.",
        wrapper=True,
    ),
    rule(
        "start_timeout",
        r"Timed out waiting for engine core processes to start",
        "The engine's own time limit for starting ran out.",
        "Set env.VLLM_ENGINE_READY_TIMEOUT_S higher.",
        retryable=True,
        wrapper=True,
    ),
    rule(
        "engine_start",
        r"EngineCore failed to start|Engine core initialization failed|WorkerProc failed to start",
        "The engine failed while it started.",
        "The cause is in the line shown, or above it in the log.",
        retryable=True,
        wrapper=True,
    ),
    rule(
        "engine_died",
        r"[Ww]orker proc .* died unexpectedly|EngineCore encountered a fatal error|EngineDeadError"
        r"|Engine core proc\S* .*died unexpectedly",
        "The engine died while it served.",
        "The cause is in the line shown; exit code -9 is often the kernel, when the host's memory is full.",
        retryable=True,
        wrapper=True,
    ),
)
