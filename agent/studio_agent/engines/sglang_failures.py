"""How SGLang fails (0.5.23): a table. Wrappers come last."""

from studio_agent.engines.failures import rule
from studio_agent.engines.python_failures import PYTHON_FAILURES

_OOM = r"(?:CUDA|HIP) out of memory\. Tried to allocate (?P<size>[\d.]+ \w+)"

SGLANG_FAILURES = (
    rule(
        "graph_oom",
        r"Capture cuda graph failed: (?P<said>.{0,120})",
        "Graphs could not be captured: {said}",
        "Lower args.max_num_seqs, or set args.enforce_eager.",
    ),
    rule(
        "weights_oom",
        _OOM,
        "The weights do not fit into the GPU's memory: {size} more were needed.",
        "Use more GPUs (args.tensor_parallel), a larger GPU, or a quantized model.",
        before="Load weight end",
    ),
    rule(
        "memory_oom",
        _OOM,
        "The GPU's memory ran out after the weights were loaded: {size} more were needed.",
        "Lower args.max_num_batched_tokens or args.max_num_seqs.",
        after="Load weight end",
    ),
    rule(
        "kv_none",
        r"leave no GPU memory for the KV cache|Not enough memory\. Please try to increase --mem-fraction-static",
        "After the weights there is no memory left for the KV cache.",
        "Raise resources.gpu.memory, or use more GPUs.",
    ),
    rule(
        "unbalanced",
        r"The memory capacity is unbalanced",
        "Another process holds memory on one of the GPUs.",
        "See which one (`nvidia-smi`); the GPUs of one replica must be equally free.",
        retryable=True,
    ),
    rule(
        "port_in_use",
        r"is not available in \d+ seconds",
        "A port that the engine needs beside its own was taken by another process.",
        "It is tried again.",
        retryable=True,
    ),
    rule(
        "len_too_big",
        r"context_length \((?P<length>\d+)\) is greater than the derived context_length \((?P<fits>\d+)\)",
        "The model's own context is {fits} tokens, shorter than {length}.",
        "Lower args.max_model_len.",
    ),
    *PYTHON_FAILURES,
    rule(
        "watchdog",
        r"[Ww]atchdog timeout",
        "A forward pass hung, and the engine ended itself.",
        "Look for XID errors in the kernel log; the stacks are in the engine's log.",
        retryable=True,
    ),
    rule(
        "engine_start",
        r"Initialization failed\. warmup error",
        "The engine's own warm-up failed.",
        "The cause is in the line shown, or below it in the log.",
        retryable=True,
        wrapper=True,
    ),
    rule(
        "engine_died",
        r"Scheduler hit an exception|Received sigquit from a child process|Couldn't get a response from detokenizer",
        "A process of the engine died.",
        "The cause is in the line shown; exit code -9 is often the kernel, when the host's memory is full.",
        retryable=True,
        wrapper=True,
    ),
)
