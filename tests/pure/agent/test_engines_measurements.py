"""What engines say of the memory that their start took."""

from studio.v1.replica_pb2 import MeasuredMemory
from studio_agent.engines import driver_for
from studio_agent.engines.base import CanMeasure

GIB = 2**30


def measured(engine: str, log: str) -> MeasuredMemory:
    driver = driver_for(engine)
    assert isinstance(driver, CanMeasure)
    return driver.measured(log.splitlines())


def test_vllm_says_weights_activation_graphs_and_the_cache() -> None:
    found = measured(
        "vllm",
        """
(EngineCore pid=7) INFO 11-24 [gpu_model_runner.py:5123] Model loading took 14.25 GiB memory and 3.1 seconds
(EngineCore pid=7) INFO 11-24 [gpu_worker.py:760] Available KV cache memory: 52.5 GiB
(EngineCore pid=7) INFO 11-24 [kv_cache_utils.py:1700] GPU KV cache size: 430,080 tokens, Maximum concurrency 13.1x
(EngineCore pid=7) INFO 11-24 [gpu_worker.py:1034] Free memory on device (78.5/79.25 GiB) on startup. Desired GPU memory \
utilization is (0.92, 72.9 GiB). Actual usage is 14.75 GiB for consumed memory (weights + non-torch), 1.5 GiB for peak \
activation, and 0.75 GiB for CUDAGraph memory. Replace gpu_memory_utilization config with `--kv-cache-memory=1`
""",
    )
    assert found == MeasuredMemory(
        weights_bytes=int(14.25 * GIB),
        context_bytes=int(0.5 * GIB),
        activation_bytes=int(1.5 * GIB),
        graphs_bytes=int(0.75 * GIB),
        kv_bytes=int(52.5 * GIB),
        kv_tokens=430_080,
    )


def test_an_older_vllm_names_each_part_by_itself() -> None:
    found = measured(
        "vllm",
        "Actual usage is 14.25 GiB for weight, 1.5 GiB for peak activation, 0.25 GiB for non-torch memory, "
        "and 0.5 GiB for CUDAGraph memory.",
    )
    assert (found.weights_bytes, found.context_bytes) == (int(14.25 * GIB), int(0.25 * GIB))


def test_of_several_ranks_the_largest_counts() -> None:
    lines = "\n".join(
        f"(Worker_TP{rank}) Model loading took {size} GiB memory and 1 seconds"
        for rank, size in enumerate((7.0, 7.5, 7.25))
    )
    assert measured("vllm", lines).weights_bytes == int(7.5 * GIB)


def test_sglang_says_weights_graphs_and_tokens() -> None:
    found = measured(
        "sglang",
        """
Load weight end. elapsed=3.21 s, type=Qwen3ForCausalLM, dtype=torch.bfloat16, avail mem=62.1 GB, mem usage=15.25 GB.
Capture cuda graph end. Time elapsed: 4.1 s. mem usage=1.25 GB. avail mem=9.9 GB.
max_total_num_tokens=367404, chunked_prefill_size=8192, max_running_requests=4096
""",
    )
    assert found == MeasuredMemory(weights_bytes=int(15.25 * GIB), graphs_bytes=int(1.25 * GIB), kv_tokens=367_404)


def test_a_log_without_figures_says_nothing() -> None:
    assert not measured("vllm", "INFO Loading weights took 3 seconds\nApplication startup complete.").ListFields()
