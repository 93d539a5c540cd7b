"""Failures of SGLang, TabbyAPI and llama.cpp by name: excerpts of logs in the form in which each writes them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from studio_agent.engines import driver_for
from studio_agent.engines.llamacpp_failures import LLAMACPP_FAILURES
from studio_agent.engines.sglang_failures import SGLANG_FAILURES
from studio_agent.engines.tabbyapi_failures import TABBYAPI_FAILURES

OOM = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 448.00 MiB. GPU 0 has a total capacity of 79.18 GiB"
)


def sglang(said: str, *before: str) -> list[str]:
    """A scheduler's traceback that ends with ``said``, after ``before``; the parent is told by a signal."""
    stamp = "[2026-11-24 18:00:10 TP0] "
    return [
        *(stamp + line for line in before),
        stamp + "Scheduler hit an exception: Traceback (most recent call last):",
        '  File "scheduler.py", line 9, in run_scheduler_process',
        said,
        "",
        "[2026-11-24 18:00:11] Received sigquit from a child process. It usually means the child failed.",
    ]


WEIGHTS_READ = "Load weight end. elapsed=9.81 s, type=LlamaForCausalLM, avail mem=62.10 GB, mem usage=15.02 GB."

SGLANG = [
    (sglang(OOM, "Load weight begin. avail mem=78.50 GB"), "weights_oom", "448.00 MiB", False),
    (sglang(OOM, WEIGHTS_READ), "memory_oom", "after the weights", False),
    (
        sglang("Exception: Capture cuda graph failed: CUDA out of memory. Tried to allocate 2.00 GiB", WEIGHTS_READ),
        "graph_oom", "Graphs could not be captured", False,
    ),
    (
        sglang("RuntimeError: Not enough memory. Please try to increase --mem-fraction-static.", WEIGHTS_READ),
        "kv_none", "no memory left", False,
    ),
    (
        sglang("RuntimeError: Loaded weights leave no GPU memory for the KV cache under mem_fraction_static=0.3", WEIGHTS_READ),
        "kv_none", "no memory left", False,
    ),
    (
        sglang("ValueError: The memory capacity is unbalanced. Some GPUs may be occupied by other processes."),
        "unbalanced", "Another process", True,
    ),
    (
        ["Traceback (most recent call last):", "RuntimeError: NCCL port at 31337 is not available in 30 seconds. held by x"],
        "port_in_use", "beside its own", True,
    ),
    (
        ["[2026-11-24 18:00:10] ERROR:    [Errno 98] error while attempting to bind on address ('127.0.0.1', 20001)"],
        "port_in_use", "port", True,
    ),
    (
        [
            "Traceback (most recent call last):",
            "ValueError: User-specified context_length (99999) is greater than the derived context_length (4096). This",
        ],
        "len_too_big", "4096 tokens, shorter than 99999", False,
    ),
    (
        sglang("ValueError: Model architectures ['FooForCausalLM'] are not supported for now. Supported architectures: x"),
        "arch_unsupported", "architecture", False,
    ),
    (
        sglang("torch.distributed.DistBackendError: NCCL error in: x.cpp:1, unhandled system error"),
        "nccl", "talk to each other", True,
    ),
    (
        sglang("torch.AcceleratorError: CUDA error: an illegal memory access was encountered", WEIGHTS_READ),
        "gpu_fault", "fault", True,
    ),
    (["usage: sglang", "sglang: error: unrecognized arguments: --nonsense 1"], "bad_argument", "--nonsense 1", False),
    (
        ["Traceback (most recent call last):", "ModuleNotFoundError: No module named 'sgl_kernel'"],
        "environment_broken", "sgl_kernel", False,
    ),
    (
        ["[2026-11-24 18:05:10 TP0] ERROR Scheduler watchdog timeout (self.watchdog_timeout=300, self.soft=False)"],
        "watchdog", "hung", True,
    ),
    (
        ["[2026-11-24 18:00:10] ERROR: Initialization failed. warmup error: Traceback (most recent call last):", "x"],
        "engine_start", "warm-up", True,
    ),
    (sglang("RuntimeError: something new"), "engine_died", "A process of the engine died", True),
]  # fmt: skip

TABBY_STAMP = "2026-11-24 18:00:10.123 "
TABBYAPI = [
    (
        ["Traceback (most recent call last):", "RuntimeError: Insufficient VRAM in split for model and cache"],
        "weights_oom", "do not fit", False,
    ),
    (["Traceback (most recent call last):", OOM], "weights_oom", "do not fit", False),
    (
        [TABBY_STAMP + "ERROR:    Ports 20001 and 20002 are in use by different services."],
        "port_in_use", "Port 20001", True,
    ),
    (
        [
            "Traceback (most recent call last):",
            "ValueError: Models quantized with 'gptq' require the exllamav2 backend, which is no longer supported.",
        ],
        "quantization_unsupported", "gptq", False,
    ),
    (
        [TABBY_STAMP + "WARNING:  Unable to run ExllamaV3 because an unsupported GPU is found in this configuration."],
        "gpu_unsupported", "Ampere", False,
    ),
    (["ERROR: Inference dependencies for TabbyAPI are not installed."], "environment_broken", "exllamav3 is missing", False),
    (
        [
            "Traceback (most recent call last):",
            "RuntimeError: ERROR: TabbyAPI requires a minimum of version 1.4.1 of exllamav3. 1.0.0 is installed",
        ],
        "environment_broken", "too old", False,
    ),
    (
        ["Traceback (most recent call last):", "ModuleNotFoundError: No module named 'ruamel'"],
        "environment_broken", "ruamel", False,
    ),
    (
        ["Traceback (most recent call last):", "ValueError: Unknown architecture FooForCausalLM in config.json"],
        "arch_unsupported", "architecture", False,
    ),
    (
        [TABBY_STAMP + "ERROR:    The YAML config from 'config.yml' couldn't load because of the following error:"],
        "config_invalid", "refused", False,
    ),
    (
        ["pydantic_core._pydantic_core.ValidationError: 1 validation error for TabbyConfigModel", "model.cache_size"],
        "config_invalid", "refused", False,
    ),
    (["Traceback (most recent call last):", "OSError: [Errno 28] No space left on device"], "disk", "disk", False),
]  # fmt: skip

LOADING = ["srv    load_model: loading model '/models/m.gguf'"]
GIVES_UP = [
    "srv    load_model: failed to load model, '/models/m.gguf'",
    "srv   llama_server: exiting due to model loading error",
]
LLAMACPP = [
    (
        [
            *LOADING,
            "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 14560.00 MiB on device 0: cudaMalloc failed: out of memory",
            "llama_model_load: error loading model: unable to allocate CUDA0 buffer",
            *GIVES_UP,
        ],
        "weights_oom", "does not fit", False,
    ),
    (
        [
            *LOADING,
            "load_tensors: offloaded 33/33 layers to GPU",
            "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 8192.00 MiB on device 0: cudaMalloc failed: out of memory",
            "llama_init_from_model: failed to initialize the context: failed to allocate buffer for kv cache",
            *GIVES_UP,
        ],
        "kv_none", "KV cache", False,
    ),
    (
        ["srv         start: couldn't bind HTTP server socket, hostname: 127.0.0.1, port: 20001"],
        "port_in_use", "Port 20001", True,
    ),
    (
        [*LOADING, "llama_model_load: error loading model: unknown model architecture: 'foo'", *GIVES_UP],
        "arch_unsupported", "architecture foo", False,
    ),
    (["error: failed to get manifest, HTTP status 401 Unauthorized"], "hf_auth", "refused", False),
    (
        [*LOADING, "gguf_init_from_file: failed to open GGUF file '/models/m.gguf'", *GIVES_UP],
        "hf_missing", "no such model", False,
    ),
    (
        [*LOADING, "llama_model_load: error loading model: corrupted model: 291 tensors expected but 290 found", *GIVES_UP],
        "model_damaged", "damaged", False,
    ),
    (["srv  error while writing: No space left on device"], "disk", "disk", False),
    (["error: invalid argument: --nonsense"], "bad_argument", "--nonsense", False),
    (['error while handling argument "--fit": error: unknown value for --fit: \'x\''], "bad_argument", "--fit", False),
    (["CUDA error: an illegal memory access was encountered"], "gpu_fault", "fault", True),
    (
        ["/opt/llama-server: error while loading shared libraries: libcudart.so.13: cannot open shared object file"],
        "environment_broken", "libcudart.so.13", False,
    ),
    ([*LOADING, *GIVES_UP], "engine_start", "could not load", False),
    (["/src/ggml.c:3000: GGML_ASSERT(a->ne[2] == b->ne[2]) failed"], "engine_died", "died", True),
]  # fmt: skip

CASES = [
    (engine, *case)
    for engine, cases in (("sglang", SGLANG), ("tabbyapi", TABBYAPI), ("llamacpp", LLAMACPP))
    for case in cases
]


@pytest.mark.parametrize(
    ("engine", "lines", "reason", "said", "retryable"),
    CASES,
    ids=[f"{case[0]}-{number}-{case[2]}" for number, case in enumerate(CASES)],
)
def test_a_log_names_its_failure(engine: str, lines: list[str], reason: str, said: str, retryable: bool):
    failure = driver_for(engine).classify(lines, 1)
    assert (failure.reason, failure.retryable, failure.exit_code) == (reason, retryable, 1)
    assert said in failure.message
    assert failure.hint
    assert failure.cause_line


@pytest.mark.parametrize(
    ("engine", "reasons"),
    [
        ("sglang", {row.reason for row in SGLANG_FAILURES}),
        ("tabbyapi", {row.reason for row in TABBYAPI_FAILURES}),
        ("llamacpp", {row.reason for row in LLAMACPP_FAILURES}),
    ],
)
def test_every_row_of_an_engines_own_has_a_case(engine: str, reasons: set[str]):
    # The rows that Python engines share have theirs with vLLM's.
    shared = {"port_in_use", "hf_auth", "hf_missing", "disk", "trust_remote", "nccl", "gpu_fault", "environment_broken",
              "bad_argument", "arch_unsupported", "peer_lost"}  # fmt: skip
    assert reasons - {case[2] for case in CASES if case[0] == engine} <= (shared if engine != "llamacpp" else set())


@pytest.mark.parametrize(
    ("engine", "lines", "cause"),
    [
        ("sglang", sglang("RuntimeError: something new"), "RuntimeError: something new"),
        ("tabbyapi", [TABBY_STAMP + "ERROR:    something new", "INFO bye"], "something new"),
        ("llamacpp", [*LOADING, "llama_model_load: error loading model: something new", *GIVES_UP],
         "llama_model_load: error loading model: something new"),
    ],
)  # fmt: skip
def test_the_cause_line_is_the_first_that_says_why(engine: str, lines: list[str], cause: str):
    assert driver_for(engine).classify(lines, 1).cause_line == cause


@pytest.mark.parametrize("engine", ["sglang", "tabbyapi", "llamacpp"])
@given(lines=st.lists(st.text()), exit_code=st.none() | st.integers(-200, 255))
def test_any_log_gets_a_name(engine: str, lines: list[str], exit_code: int | None):
    failure = driver_for(engine).classify(lines, exit_code)
    assert failure.reason
    assert failure.message
    assert len(failure.cause_line) <= 500
