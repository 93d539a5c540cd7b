"""Failures by name: excerpts of logs in the form in which vLLM writes them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from studio_agent.engines import driver_for
from studio_agent.engines.vllm_failures import VLLM_FAILURES

DRIVER = driver_for("vllm")
STARTED = ["(EngineCore pid=7) INFO 11-24 18:00:00 [core.py:133] Initializing a V1 LLM engine (v0.33.0) with config: x"]
LOADED = [
    *STARTED,
    "(Worker pid=9) INFO 11-24 18:00:09 [model.py:1] Model loading took 15.27 GiB memory and 9.8 seconds",
]
WRAPPED = [
    "(APIServer pid=5) Traceback (most recent call last):",
    '(APIServer pid=5)   File "/engines/vllm/launcher.py", line 12, in main',
    "(APIServer pid=5) RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}",
]


def failed(said: str, where: str = "core.py:1584") -> list[str]:
    """A child's traceback that ends with ``said``, logged line by line as an error, and what the parents add."""
    prefix = f"(EngineCore pid=7) ERROR 11-24 18:00:10 [{where}] "
    traceback = [
        "EngineCore failed to start.",
        "Traceback (most recent call last):",
        '  File "core.py", line 9, in run',
        said,
    ]
    return [*(prefix + line for line in traceback), *WRAPPED]


OOM = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 224.00 MiB. GPU 0 has a total capacity of 79.18 GiB"
)
CAPTURING = "\rCapturing CUDA graphs (decode, FULL):  45%|████▍     | 30/67 [00:02<00:03, 12it/s]"

CASES = [
    (STARTED + failed(OOM), "weights_oom", "224.00 MiB", False),
    (LOADED + failed("ValueError: Failed to load model - not enough GPU memory. Try lowering"), "weights_oom", "fit", False),
    ([*LOADED, CAPTURING, *failed(OOM)], "graph_oom", "graphs", False),
    (LOADED + failed(OOM), "memory_oom", "after the weights", False),
    (
        failed(
            "ValueError: Free memory on device cuda:0 (40.10/79.18 GiB) on startup is less than desired GPU memory utilization "
            "(0.92, 72.85 GiB). Decrease GPU memory utilization or reduce GPU memory used by other processes."
        ),
        "util_too_high", "40.10 of 79.18 GiB", True,
    ),
    (
        failed("ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization`"),
        "kv_none", "KV cache", False,
    ),
    (
        failed("ValueError: max_num_seqs (1024) exceeds available Mamba cache blocks (431). Lower max_num_seqs."),
        "mamba_blocks", "431", False,
    ),
    (
        failed(
            "ValueError: To serve at least one request with the model's max seq len (131072), (16.00 GiB KV cache is needed, "
            "which is larger than the available KV cache memory (9.62 GiB). Based on the available memory, the estimated "
            "maximum model length is 78784. Try increasing `gpu_memory_utilization` or decreasing `max_model_len`"
        ),
        "kv_too_small", "78784", False,
    ),
    (failed("ValueError: Cannot auto-fit max_model_len: not enough GPU memory"), "kv_auto_failed", "short", False),
    (
        failed("AssertionError: Error in memory profiling. Initial free memory 70.1 GiB, current free memory 75.2 GiB."),
        "neighbour_changed", "Another process", True,
    ),
    (
        ["(APIServer pid=5) Traceback (most recent call last):", "(APIServer pid=5) OSError: [Errno 98] Address already in use"],
        "port_in_use", "port", True,
    ),
    (
        [
            "Traceback (most recent call last):",
            "huggingface_hub.errors.GatedRepoError: 401 Client Error. (Request ID: Root=1-2)",
            "Cannot access gated repo for url https://hub/meta-llama/Llama.",
        ],
        "hf_auth", "refused", False,
    ),
    (
        [
            "Traceback (most recent call last):",
            "OSError: ACME/no-such is not a local folder and is not a valid model identifier listed on the hub",
        ],
        "hf_missing", "no such model", False,
    ),
    (failed("OSError: [Errno 28] No space left on device"), "disk", "disk", False),
    (
        failed("ValueError: Model architectures ['FooForCausalLM'] are not supported for now. Supported: dict_keys([])"),
        "arch_unsupported", "architecture", False,
    ),
    (
        ["ValueError: The repository x contains custom code. Please pass the argument `trust_remote_code=True` to allow it."],
        "trust_remote", "own code", False,
    ),
    (
        [
            "(APIServer pid=5) pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig",
            "(APIServer pid=5)   Value error, User max_model_len (99999) is greater than the derived max_model_len (x=4)",
        ],
        "len_too_big", "99999", False,
    ),
    (
        [
            "(APIServer pid=5) pydantic_core._pydantic_core.ValidationError: 1 validation error for SchedulerConfig",
            "(APIServer pid=5)   Value error, max_num_batched_tokens (9) is too small [type=value_error, input_value=1]",
        ],
        "config_invalid", "max_num_batched_tokens (9) is too small", False,
    ),
    (
        ["ValueError: World size (4) is larger than the number of available GPUs (2) in this node. If this is intentional"],
        "world_size", "4 GPUs are wanted, but the engine sees 2", False,
    ),
    (
        ["ValueError: Total number of attention heads (40) must be divisible by tensor parallel size (3)."],
        "heads", "40 attention heads", False,
    ),
    (["usage: vllm [-h]", "vllm: error: unrecognized arguments: --nonsense 1"], "bad_argument", "--nonsense 1", False),
    (failed("torch.distributed.DistBackendError: NCCL error in: x.cpp:1, unhandled system error"), "nccl", "talk", True),
    (
        failed(
            "RuntimeError: [/build/gloo/transport/tcp/pair.cc:553] Connection closed by peer [10.0.0.8]:41122. "
            "This is typically caused by a remote worker crashing."
        ),
        "peer_lost", "Another part", True,
    ),
    (failed("DistBackendError: NCCL error in: x.cpp:9, remote process exited, ncclRemoteError"), "peer_lost", "gone", True),
    (["(APIServer pid=7) ERROR 11-24 18:00:00 [group.py:83] rank 1 is gone: Connection closed"], "peer_lost", "gone", True),
    (failed("torch.AcceleratorError: CUDA error: an illegal memory access was encountered"), "gpu_fault", "fault", True),
    (["Traceback (most recent call last):", "ImportError: no module named 'torch'"], "environment_broken", "torch", False),
    (
        ["(APIServer pid=5) RuntimeError: Timed out waiting for engine core processes to start. This is often slow storage"],
        "start_timeout", "time limit", True,
    ),
    (failed("RuntimeError: something new"), "engine_start", "started", True),
    (
        [
            "(EngineCore pid=7) ERROR 11-24 18:00:10 [proc.py:381] Worker proc VllmWorker-0 died unexpectedly (exit code: -9)",
            "(EngineCore pid=7) ERROR 11-24 18:00:10 [core.py:1586] EngineCore encountered a fatal error.",
        ],
        "engine_died", "served", True,
    ),
    (
        ["ValueError: Available memory on node 0 (1.2/15 GiB) on startup is less than desired CPU memory utilization (0.9)"],
        "cpu_memory", "1.2/15 GiB", False,
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("lines", "reason", "said", "retryable"), CASES, ids=[f"{n}-{case[1]}" for n, case in enumerate(CASES)]
)
def test_a_log_names_its_failure(lines: list[str], reason: str, said: str, retryable: bool):
    failure = DRIVER.classify(lines, 1)
    assert (failure.reason, failure.retryable, failure.exit_code) == (reason, retryable, 1)
    assert said in failure.message
    assert failure.hint
    assert failure.cause_line


def test_every_row_of_the_table_has_a_case():
    assert {row.reason for row in VLLM_FAILURES} == {case[1] for case in CASES}


def test_a_wrapper_shows_the_root_cause():
    assert DRIVER.classify(failed("RuntimeError: something new"), 1).cause_line == "RuntimeError: something new"


def test_the_first_cause_wins_over_what_follows_from_it():
    lines = failed("OSError: [Errno 28] No space left on device") + failed("OSError: [Errno 98] Address already in use")
    assert DRIVER.classify(lines, 1).reason == "disk"


def test_what_stands_before_the_first_error_is_no_cause():
    lines = ["INFO the option `trust_remote_code=True` was given", *failed("RuntimeError: something new")]
    assert DRIVER.classify(lines, 1).reason == "engine_start"


@pytest.mark.parametrize(
    ("exit_code", "said"),
    [
        (0, "exited with code 0"),
        (3, "exited with code 3"),
        (-9, "killed by SIGKILL"),
        (-11, "killed by SIGSEGV"),
        (None, "is gone"),
    ],
)
def test_an_end_without_a_known_cause_says_how_it_ended(exit_code: int | None, said: str):
    failure = DRIVER.classify([*LOADED, "some last words"], exit_code)
    assert (failure.reason, failure.retryable, failure.cause_line) == ("exited", True, "some last words")
    assert said in failure.message
    assert failure.HasField("exit_code") == (exit_code is not None)


def test_an_empty_log_has_no_cause_line():
    failure = DRIVER.classify([], 1)
    assert (failure.reason, failure.cause_line) == ("exited", "")


@given(st.lists(st.text()), st.one_of(st.none(), st.integers(-200, 255)))
def test_any_log_gets_a_name(lines: list[str], exit_code: int | None):
    failure = DRIVER.classify(lines, exit_code)
    assert failure.reason
    assert failure.message
    assert len(failure.cause_line) <= 500
