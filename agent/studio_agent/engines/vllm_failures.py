"""How vLLM fails (0.32 and 0.33): a table. The order matters only between rows that match the same line, and for wrappers."""

import re

from studio_agent.engines.failures import FailureRule


def _rule(
    reason: str,
    pattern: str,
    message: str,
    hint: str,
    *,
    retryable: bool = False,
    before: str = "",
    after: str = "",
    wrapper: bool = False,
) -> FailureRule:
    return FailureRule(reason, re.compile(pattern), message, hint, retryable, before, after, wrapper)


VLLM_FAILURES = (
    _rule(
        "weights_oom",
        r"Failed to load model - not enough GPU memory",
        "The weights do not fit into the GPU's memory.",
        "Use more GPUs (args.tensor_parallel), a larger GPU, or a quantized model.",
    ),
    _rule(
        "weights_oom",
        r"(?:CUDA|HIP) out of memory\. Tried to allocate (?P<size>[\d.]+ \w+)",
        "The weights do not fit into the GPU's memory: {size} more were needed.",
        "Use more GPUs (args.tensor_parallel), a larger GPU, or a quantized model.",
        before="Model loading took",
    ),
    _rule(
        "graph_oom",
        r"(?:CUDA|HIP) out of memory\. Tried to allocate (?P<size>[\d.]+ \w+)",
        "The GPU's memory ran out while graphs were captured: {size} more were needed.",
        "Lower resources.gpu.memory or args.max_num_seqs, or set args.enforce_eager.",
        after="Capturing CUDA graphs",
        before="Graph capturing finished",
    ),
    _rule(
        "memory_oom",
        r"(?:CUDA|HIP) out of memory\. Tried to allocate (?P<size>[\d.]+ \w+)",
        "The GPU's memory ran out after the weights were loaded: {size} more were needed.",
        "Lower args.max_num_batched_tokens or args.max_num_seqs.",
        after="Model loading took",
    ),
    _rule(
        "util_too_high",
        r"Free memory on device .*?\((?P<free>[\d.]+)/(?P<total>[\d.]+) GiB\).*less than desired GPU memory utilization",
        "Only {free} of {total} GiB of the GPU were free, less than the engine was told to use.",
        "See which other process holds memory on this GPU (`nvidia-smi`), or ask for less.",
        retryable=True,
    ),
    _rule(
        "cpu_memory",
        r"Available memory on node \S+ \((?P<free>[^)]*)\).*less than desired CPU memory",
        "The host has too little free memory for the engine: {free}.",
        "Free memory on the host, or set a smaller args.kv_cache_memory_bytes.",
    ),
    _rule(
        "kv_none",
        r"No available memory for the cache blocks",
        "After the weights there is no memory left for the KV cache.",
        "Raise resources.gpu.memory, use more GPUs, or lower args.max_num_seqs.",
    ),
    _rule(
        "mamba_blocks",
        r"exceeds (?:the )?available Mamba cache blocks \((?P<blocks>\d+)\)",
        "More sequences are allowed than the model's state cache has room for ({blocks}).",
        "Set args.max_num_seqs to that number or less.",
    ),
    _rule(
        "kv_auto_failed",
        r"Cannot auto-fit max_model_len",
        "Not even a short context fits into the memory that is left.",
        "Raise resources.gpu.memory, or use more GPUs.",
    ),
    _rule(
        "kv_too_small",
        r"To serve at least one request with the model's max seq len \((?P<length>\d+)\)"
        r".*?estimated maximum model length is (?P<fits>\d+)",
        "A context of {length} tokens does not fit into the KV cache; {fits} would.",
        "Set args.max_model_len to at most the length that fits, or to `auto`.",
    ),
    _rule(
        "kv_too_small",
        r"To serve at least one request with the model's max seq len",
        "The model's whole context does not fit into the KV cache.",
        "Set args.max_model_len lower, or to `auto`.",
    ),
    _rule(
        "neighbour_changed",
        r"Error in memory profiling\. Initial free memory",
        "Another process took or freed memory on the GPU while the engine measured it.",
        "It is tried again; keep other programs off this GPU while engines start.",
        retryable=True,
    ),
    _rule(
        "port_in_use",
        r"\[Errno 98\]|[Aa]ddress already in use",
        "The port was taken by another process.",
        "It is tried again on another port.",
        retryable=True,
    ),
    _rule(
        "hf_auth",
        r"GatedRepoError|Cannot access gated repo|(?:401|403) Client Error",
        "The model hub refused access to the model.",
        "Accept the model's licence on the hub, and give the host a token (HF_TOKEN).",
    ),
    _rule(
        "hf_missing",
        r"RepositoryNotFoundError|does not appear to have a file named"
        r"|is not a valid model identifier|Can't load the configuration|Invalid repository ID",
        "There is no such model, or it lacks its configuration.",
        "Check model.source: hf://OWNER/NAME, or path:// and a directory with config.json.",
    ),
    _rule(
        "disk",
        r"No space left on device",
        "The disk is full.",
        "Free space where the agent keeps models and caches.",
    ),
    _rule(
        "arch_unsupported",
        r"Model architectures (?P<names>.+?) are not supported for now|(?P<name>\S+) failed to be inspected",
        "This engine does not know the model's architecture.",
        "Try a newer engine version, or another engine.",
    ),
    _rule(
        "trust_remote",
        r"(?:argument|option|setting) `?trust_remote_code=True",
        "The model brings its own code, which was not allowed to run.",
        "Read that code; if you trust it, set args.trust_remote_code: true.",
    ),
    _rule(
        "len_too_big",
        r"max_model_len \((?P<length>\d+)\) is greater than the derived max_model_len",
        "The model's own context is shorter than {length} tokens.",
        "Lower args.max_model_len.",
    ),
    _rule(
        "world_size",
        r"World size \((?P<wanted>\d+)\) is larger than the number of available GPUs \((?P<found>\d+)\)",
        "{wanted} GPUs are wanted, but the engine sees {found}.",
        "Lower args.tensor_parallel or args.pipeline_parallel, or assign more GPUs.",
    ),
    _rule(
        "heads",
        r"Total number of attention heads \((?P<heads>\d+)\) must be divisible by tensor parallel size \((?P<size>\d+)\)",
        "{heads} attention heads cannot be shared by {size} GPUs.",
        "Choose args.tensor_parallel so that it divides the number of heads.",
    ),
    _rule(
        "bad_argument",
        r"error: (?P<said>(?:unrecognized arguments|argument |invalid choice|ambiguous option).*)",
        "The engine does not take its arguments: {said}",
        "Check extra_args against this engine version.",
    ),
    _rule(
        "nccl",
        r"NCCL error|DistBackendError|Watchdog caught collective operation timeout",
        "The GPUs could not talk to each other.",
        "Check links and P2P between the GPUs, and the kernel log for XID errors.",
        retryable=True,
    ),
    _rule(
        "gpu_fault",
        r"CUDA error: (?P<fault>an illegal memory access|unspecified launch failure|device-side assert|uncorrectable ECC)"
        r"|(?P<other>uncorrectable ECC error|device-side assert triggered)",
        "The GPU reported a fault.",
        "Look for XID errors in the kernel log; drain the host if they return.",
        retryable=True,
    ),
    _rule(
        "environment_broken",
        r"^(?:ModuleNotFoundError|ImportError): (?P<said>.+)",
        "The engine's environment is broken: {said}",
        "Remove the environment under the engines folder; it is installed anew.",
    ),
    _rule(
        "config_invalid",
        r"^Value error, (?P<said>.+?)(?: \[type=.*)?$",
        "The engine refused its configuration: {said}",
        "Mend the recipe's args or extra_args.",
        wrapper=True,
    ),
    _rule(
        "start_timeout",
        r"Timed out waiting for engine core processes to start",
        "The engine's own time limit for starting ran out.",
        "Set env.VLLM_ENGINE_READY_TIMEOUT_S higher.",
        retryable=True,
        wrapper=True,
    ),
    _rule(
        "engine_start",
        r"EngineCore failed to start|Engine core initialization failed|WorkerProc failed to start",
        "The engine failed while it started.",
        "The cause is in the line shown, or above it in the log.",
        retryable=True,
        wrapper=True,
    ),
    _rule(
        "engine_died",
        r"[Ww]orker proc .* died unexpectedly|EngineCore encountered a fatal error|EngineDeadError"
        r"|Engine core proc\S* .*died unexpectedly",
        "The engine died while it served.",
        "The cause is in the line shown; exit code -9 is often the kernel, when the host's memory is full.",
        retryable=True,
        wrapper=True,
    ),
)
