"""What SGLang, TabbyAPI and llama.cpp say while they start and serve."""

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from studio.v1.replica_pb2 import StartProgress as Start
from studio_agent.engines import driver_for

STAMP = "[2026-11-24 18:00:10 TP0] "


@pytest.mark.parametrize(
    ("engine", "line", "phase", "detail", "share"),
    [
        ("sglang", STAMP + "server_args={'model_path': '/models/m'}", Start.PHASE_INIT, "SGLang starts", None),
        ("sglang", STAMP + "Init torch distributed begin.", Start.PHASE_INIT, "the workers find one another", None),
        ("sglang", STAMP + "Load weight begin. avail mem=78.50 GB", Start.PHASE_WEIGHTS, "reading the weights", None),
        ("sglang", "\rLoading safetensors checkpoint shards:  38% Completed | 3/8 [00:09<00:15,  3.1s/it]",
         Start.PHASE_WEIGHTS, "shard 3 of 8", 0.375),
        ("sglang", "\rMulti-thread loading shards:  50%|█████     | 2/4 [00:01<00:01,  1.9it/s]",
         Start.PHASE_WEIGHTS, "shard 2 of 4", 0.5),
        ("sglang", STAMP + "Load weight end. elapsed=9.81 s, type=LlamaForCausalLM, avail mem=62.10 GB, mem usage=15.02 GB.",
         Start.PHASE_WEIGHTS, "weights read in 9.81 s, 15.02 GB", None),
        ("sglang", STAMP + "KV Cache is allocated. dtype: torch.bfloat16, #tokens: 402653, K size: 24.58 GB, V size: 24.58 GB",
         Start.PHASE_PROFILE, "KV cache of 402653 tokens", None),
        ("sglang", STAMP + "Memory pool end. avail mem=12.30 GB", Start.PHASE_PROFILE, "12.30 GB stay free", None),
        ("sglang", STAMP + "Capture decode CUDA graph begin. This can take up to several minutes. avail mem=12.1 GB",
         Start.PHASE_GRAPHS, "capturing graphs", None),
        ("sglang", "\rCapturing batches (bs=128 avail_mem=11.62 GB):  25%|██▌       | 9/36 [00:02<00:06, 4.1it/s]",
         Start.PHASE_GRAPHS, "graph 9 of 36", 0.25),
        ("sglang", STAMP + "Capture decode CUDA graph end. Time elapsed: 8.02 s.", Start.PHASE_GRAPHS, "graphs captured", None),
        ("sglang", STAMP + "max_total_num_tokens=402653, chunked_prefill_size=8192, context_len=131072",
         Start.PHASE_WARM_UP, "room for 402653 tokens", None),
        ("sglang", "INFO:     Uvicorn running on http://127.0.0.1:20001 (Press CTRL+C to quit)",
         Start.PHASE_WARM_UP, "the server listens and warms up", None),
        ("sglang", "[2026-11-24 18:00:40] The server is fired up and ready to roll!",
         Start.PHASE_WARM_UP, "the server answers", None),
        ("tabbyapi", "2026-11-24 18:00:10.123 INFO: Configured backend: cudaMallocAsync",
         Start.PHASE_INIT, "TabbyAPI starts", None),
        ("tabbyapi", "2026-11-24 18:00:10.123 INFO: Using default max_seq_len from model: 40960 tokens.",
         Start.PHASE_INIT, "context 40960 tokens", None),
        ("tabbyapi", "2026-11-24 18:00:10.123 INFO: Loading model: /models/m", Start.PHASE_WEIGHTS, "reading the weights", None),
        ("tabbyapi", "2026-11-24 18:00:10.123 INFO: Loading with autosplit", Start.PHASE_WEIGHTS, "loading with autosplit", None),
        ("tabbyapi", "Loading model modules ━━━━━━╸━━━━━━  50% 16/32 0:00:04", Start.PHASE_WEIGHTS, "module 16 of 32", 0.5),
        ("tabbyapi", "2026-11-24 18:00:19.123 INFO: Model successfully loaded.",
         Start.PHASE_WEIGHTS, "the weights are read", None),
        ("tabbyapi", "2026-11-24 18:00:19.200 INFO: Starting OAI API", Start.PHASE_WARM_UP, "the server starts", None),
        ("llamacpp", "srv  llama_server: initializing ...", Start.PHASE_INIT, "llama.cpp starts", None),
        ("llamacpp", "srv    load_model: loading model '/models/m.gguf'", Start.PHASE_WEIGHTS, "reading /models/m.gguf", None),
        ("llamacpp", "load_tensors: offloaded 20/33 layers to GPU", Start.PHASE_WEIGHTS, "20 of 33 layers on the GPU", 20 / 33),
        ("llamacpp", "llama_kv_cache:      CUDA0 KV buffer size =  4096.00 MiB",
         Start.PHASE_PROFILE, "4096.00 MiB for the KV cache", None),
        ("llamacpp", "srv    load_model: initializing, n_slots = 4, n_ctx_slot = 8192, kv_unified = 'false'",
         Start.PHASE_WARM_UP, "4 slots", None),
        ("llamacpp", "srv  llama_server: model loaded", Start.PHASE_WARM_UP, "the model is loaded", None),
        ("llamacpp", "srv  llama_server: listening on http://127.0.0.1:20001", Start.PHASE_WARM_UP, "the server answers", None),
    ],
)  # fmt: skip
def test_a_line_tells_its_phase(engine: str, line: str, phase: Start.Phase.ValueType, detail: str, share: float | None):
    said = driver_for(engine).progress(line)
    assert said is not None
    assert (said.phase, said.detail) == (phase, detail)
    assert (said.share if said.HasField("share") else None) == share


@pytest.mark.parametrize("engine", ["sglang", "tabbyapi", "llamacpp"])
@pytest.mark.parametrize(
    "line", ["", "\r", "INFO: 127.0.0.1:5000 - POST /v1/completions 200 OK", "Traceback (most recent call last):"]
)
def test_other_lines_tell_nothing(engine: str, line: str):
    assert driver_for(engine).progress(line) is None


SGLANG_PAGE = """
sglang:num_running_reqs{dp_rank="0",engine_type="unified",model_name="m",pp_rank="0",tp_rank="0"} 3.0
sglang:num_running_reqs{dp_rank="1",engine_type="unified",model_name="m",pp_rank="0",tp_rank="0"} 4.0
sglang:num_queue_reqs{dp_rank="0",model_name="m"} 1.0
sglang:num_queue_reqs{dp_rank="1",model_name="m"} 0.0
sglang:token_usage{dp_rank="0",model_name="m"} 0.25
sglang:token_usage{dp_rank="1",model_name="m"} 0.75
sglang:cache_hit_rate{dp_rank="0",model_name="m"} 0.5
sglang:cache_hit_rate{dp_rank="1",model_name="m"} 0.7
# TYPE sglang:prompt_tokens counter
sglang:prompt_tokens_total{model_name="m"} 12000.0
# TYPE sglang:generation_tokens counter
sglang:generation_tokens_total{model_name="m"} 3400.0
# TYPE sglang:time_to_first_token_seconds histogram
sglang:time_to_first_token_seconds_bucket{le="0.1",model_name="m"} 1
sglang:time_to_first_token_seconds_bucket{le="+Inf",model_name="m"} 2
sglang:time_to_first_token_seconds_count{model_name="m"} 2
sglang:time_to_first_token_seconds_sum{model_name="m"} 0.5
# TYPE sglang:inter_token_latency_seconds histogram
sglang:inter_token_latency_seconds_bucket{le="+Inf",model_name="m"} 7
sglang:inter_token_latency_seconds_count{model_name="m"} 7
sglang:inter_token_latency_seconds_sum{model_name="m"} 0.25
"""

LLAMACPP_PAGE = """
# HELP llamacpp:prompt_tokens_total Number of prompt tokens processed, excluding cached tokens
# TYPE llamacpp:prompt_tokens_total counter
llamacpp:prompt_tokens_total 1200
# HELP llamacpp:tokens_predicted_total Number of generation tokens processed
# TYPE llamacpp:tokens_predicted_total counter
llamacpp:tokens_predicted_total 340
# HELP llamacpp:requests_processing Number of requests processing
# TYPE llamacpp:requests_processing gauge
llamacpp:requests_processing 2
# HELP llamacpp:requests_deferred Number of requests deferred
# TYPE llamacpp:requests_deferred gauge
llamacpp:requests_deferred 1
"""


def test_figures_of_sglang_are_summed_over_ranks_and_shares_averaged():
    figures = driver_for("sglang").figures(SGLANG_PAGE, Timestamp(seconds=5))
    assert (figures.running, figures.waiting, figures.kv_used_share) == (7, 1, 0.5)
    assert (figures.prompt_tokens_total, figures.generation_tokens_total) == (12000, 3400)
    assert figures.prefix_hit_share == pytest.approx(0.6)
    assert (figures.time_to_first_token_seconds.count, figures.inter_token_seconds.count) == (2, 7)
    assert not figures.stale


def test_figures_of_llamacpp_lack_what_it_does_not_tell():
    figures = driver_for("llamacpp").figures(LLAMACPP_PAGE, Timestamp(seconds=5))
    assert {field.name for field, _ in figures.ListFields()} == {
        "at", "running", "waiting", "prompt_tokens_total", "generation_tokens_total",
    }  # fmt: skip
    assert (figures.running, figures.waiting) == (2, 1)
    assert (figures.prompt_tokens_total, figures.generation_tokens_total) == (1200, 340)


def test_tabbyapi_has_no_figures():
    figures = driver_for("tabbyapi").figures(SGLANG_PAGE, Timestamp(seconds=5))
    assert [field.name for field, _ in figures.ListFields()] == ["at"]
