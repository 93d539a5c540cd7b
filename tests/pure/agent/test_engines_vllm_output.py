"""What vLLM says while it starts and serves: a start and a metrics page of the real CPU build, and lines of a GPU's."""

from pathlib import Path

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from studio.v1.replica_pb2 import StartProgress as Start
from studio_agent.engines import driver_for

OUTPUT = Path(__file__).parent / "vllm_output"
DRIVER = driver_for("vllm")
INFO = "(EngineCore pid=7) INFO 11-24 18:00:00 [core.py:1] "


def test_a_real_start_on_a_cpu_is_followed_to_its_end():
    lines = (OUTPUT / "cpu_start.log").read_bytes().decode().split("\n")
    told = [said for line in lines if (said := DRIVER.progress(line))]
    assert [(said.phase, said.detail) for said in told] == [
        (Start.PHASE_INIT, "vLLM 0.32.0 starts"),
        (Start.PHASE_INIT, "architecture LlamaForCausalLM"),
        (Start.PHASE_INIT, "the engine core starts"),
        (Start.PHASE_WEIGHTS, "reading the weights"),
        (Start.PHASE_WEIGHTS, "shard 0 of 1"),
        (Start.PHASE_WEIGHTS, "shard 1 of 1"),
        (Start.PHASE_WEIGHTS, "weights read in 0.00 s"),
        (Start.PHASE_PROFILE, "1.0 GiB for the KV cache"),
        (Start.PHASE_PROFILE, "KV cache of 2,097,152 tokens"),
        (Start.PHASE_WARM_UP, "engine initialised in 2.72 s"),
        (Start.PHASE_WARM_UP, "the server starts"),
        (Start.PHASE_WARM_UP, "the server answers"),
    ]
    assert [said.share for said in told if said.HasField("share")] == [0.0, 1.0]


@pytest.mark.parametrize(
    ("line", "phase", "detail", "share"),
    [
        (
            ("\rLoading safetensors checkpoint shards:   0% Completed | 0/8 [00:00<?, ?it/s]"
            "\rLoading safetensors checkpoint shards:  38% Completed | 3/8 [00:09<00:15,  3.1s/it]"),
            Start.PHASE_WEIGHTS, "shard 3 of 8", 0.375,
        ),
        ("Fetching 4 files:  25%|██▌       | 1/4 [00:01<00:03,  1.0s/it]", Start.PHASE_DOWNLOAD, "file 1 of 4", 0.25),
        (
            "model-00001-of-00004.safetensors:  45%|████▌     | 2.1G/4.9G [00:20<00:24, 110MB/s]",
            Start.PHASE_DOWNLOAD, "45 % of a weights file", 0.45,
        ),
        (
            INFO + "Time spent downloading weights for Qwen/Qwen3-8B: 61.2 seconds",
            Start.PHASE_DOWNLOAD, "downloaded in 61.2 s", None,
        ),
        (
            INFO + "Model loading took 15.27 GiB memory and 9.8 seconds",
            Start.PHASE_WEIGHTS, "the weights take 15.27 GiB", None,
        ),
        (INFO + "Dynamo bytecode transform time: 4.61 s", Start.PHASE_COMPILE, "tracing the model", None),
        (
            INFO + "Compiling a graph for compile range (1, 8192) takes 20.1 s",
            Start.PHASE_COMPILE, "compiling the model", None,
        ),
        (
            INFO + "Directly load the compiled graph(s) for compile range (1, 8192) from the cache",
            Start.PHASE_COMPILE, "compiled model found in the cache", None,
        ),
        (INFO + "torch.compile took 24.80 s in total", Start.PHASE_COMPILE, "compiled in 24.80 s", None),
        (INFO + "Available KV cache memory: 51.2 GiB", Start.PHASE_PROFILE, "51.2 GiB for the KV cache", None),
        (
            "Capturing CUDA graphs (mixed prefill-decode, PIECEWISE):  45%|████▍     | 30/67 [00:02<00:03, 12it/s]",
            Start.PHASE_GRAPHS, "graph 30 of 67", 30 / 67,
        ),
        (
            INFO + "Graph capturing finished in 7 secs, took 0.62 GiB",
            Start.PHASE_GRAPHS, "graphs captured in 7 s", None,
        ),
    ],
)  # fmt: skip
def test_a_line_tells_its_phase(line: str, phase: Start.Phase.ValueType, detail: str, share: float | None):
    said = DRIVER.progress(line)
    assert said is not None
    assert (said.phase, said.detail) == (phase, detail)
    assert (said.share if said.HasField("share") else None) == share


@pytest.mark.parametrize("line", ["", "\r", INFO + "Using max model len 1024", "Traceback (most recent call last):"])
def test_other_lines_tell_nothing(line: str):
    assert DRIVER.progress(line) is None


def test_figures_of_a_real_page():
    figures = DRIVER.figures((OUTPUT / "cpu_metrics.txt").read_text(), Timestamp(seconds=5))
    assert figures.at.seconds == 5
    assert not figures.stale
    assert (figures.running, figures.waiting, figures.kv_used_share) == (0, 0, 0)
    assert (figures.prompt_tokens_total, figures.generation_tokens_total) == (19, 6)
    assert figures.prefix_hit_share == 0
    assert figures.time_to_first_token_seconds.count == 2
    assert figures.inter_token_seconds.upper_bounds[-1] == float("inf")
    assert figures.inter_token_seconds.counts[-1] == figures.inter_token_seconds.count == 4
    assert not figures.HasField("generation_tokens_per_second")


TWO_RANKS = """
vllm:num_requests_running{engine="0",model_name="m"} 3
vllm:num_requests_running{engine="1",model_name="m"} 4
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.2
vllm:kv_cache_usage_perc{engine="1",model_name="m"} 0.6
# TYPE vllm:generation_tokens counter
vllm:generation_tokens_total{engine="0",model_name="m"} 100
vllm:generation_tokens_total{engine="1",model_name="m"} 50
# TYPE vllm:prefix_cache_queries counter
vllm:prefix_cache_queries_total{engine="0",model_name="m"} 100
vllm:prefix_cache_queries_total{engine="1",model_name="m"} 300
# TYPE vllm:prefix_cache_hits counter
vllm:prefix_cache_hits_total{engine="0",model_name="m"} 100
vllm:prefix_cache_hits_total{engine="1",model_name="m"} 100
# TYPE vllm:time_to_first_token_seconds histogram
vllm:time_to_first_token_seconds_bucket{engine="0",le="0.1",model_name="m"} 1
vllm:time_to_first_token_seconds_bucket{engine="0",le="+Inf",model_name="m"} 2
vllm:time_to_first_token_seconds_count{engine="0",model_name="m"} 2
vllm:time_to_first_token_seconds_sum{engine="0",model_name="m"} 0.5
vllm:time_to_first_token_seconds_bucket{engine="1",le="0.1",model_name="m"} 3
vllm:time_to_first_token_seconds_bucket{engine="1",le="+Inf",model_name="m"} 3
vllm:time_to_first_token_seconds_count{engine="1",model_name="m"} 3
vllm:time_to_first_token_seconds_sum{engine="1",model_name="m"} 0.25
"""


def test_ranks_are_summed_and_shares_averaged():
    figures = DRIVER.figures(TWO_RANKS, Timestamp())
    assert figures.running == 7
    assert figures.kv_used_share == pytest.approx(0.4)
    assert figures.generation_tokens_total == 150
    assert figures.prefix_hit_share == 0.5
    assert list(figures.time_to_first_token_seconds.counts) == [4, 5]
    assert figures.time_to_first_token_seconds.sum == 0.75


def test_what_the_page_lacks_is_absent():
    figures = DRIVER.figures(TWO_RANKS, Timestamp())
    for name in ("waiting", "prompt_tokens_total", "inter_token_seconds"):
        assert not figures.HasField(name)
    nothing = DRIVER.figures("", Timestamp(seconds=1))
    assert [field.name for field, _ in nothing.ListFields()] == ["at"]


def test_no_query_yet_is_no_hit_share():
    page = "vllm:prefix_cache_queries_total 0\nvllm:prefix_cache_hits_total 0\n"
    assert not DRIVER.figures(page, Timestamp()).HasField("prefix_hit_share")


def test_a_page_that_breaks_off_keeps_what_came_before():
    figures = DRIVER.figures(
        'vllm:num_requests_running{engine="0"} 3\nvllm:num_requests_waiting{engine="0"', Timestamp()
    )
    assert figures.stale
    assert figures.running == 3
    assert not figures.HasField("waiting")
