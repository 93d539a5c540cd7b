"""Blocks, tokens, splits and shares: properties that hold for every model and setting."""

from dataclasses import replace
from typing import Any

import pytest
from fakes.checkpoints import a_config
from hypothesis import given, settings
from hypothesis import strategies as st
from studio_coordinator.plan.memory.answer import estimate
from studio_coordinator.plan.memory.calibration import Calibration, Measured
from studio_coordinator.plan.memory.errors import EstimateError, IndivisibleError
from studio_coordinator.plan.memory.facts import ModelFacts
from studio_coordinator.plan.memory.fitting import Wanted, share_gpu, smallest_split
from studio_coordinator.plan.memory.kv_pool import kv_pool
from studio_coordinator.plan.memory.model import model_facts
from studio_coordinator.plan.memory.parallel import pipeline_stages, splits, why_not
from studio_coordinator.plan.memory.parts import Source
from studio_coordinator.plan.memory.settings import Gpu, Settings, vllm_question
from studio_coordinator.plan.memory.sizes import GIB
from studio_coordinator.plan.memory.weights import rank_weights

# The machine may be busy with other tests.
PATIENT = settings(deadline=None)

H100 = Gpu(int(79.19 * GIB), "H100")
KINDS: dict[str, dict[str, Any]] = {
    "gqa": {},
    "windows": {"model_type": "mistral", "sliding_window": 512},
    "window hybrid": {"model_type": "gemma3_text", "num_hidden_layers": 13, "sliding_window": 512},
    "chunks": {"model_type": "llama4_text", "num_hidden_layers": 8},
    "latent": {"model_type": "deepseek_v3", "num_key_value_heads": 8},
    "states": {"model_type": "mamba2", "num_heads": 8, "head_dim": 64, "state_size": 128},
    "state hybrid": {"model_type": "qwen3_next", "num_hidden_layers": 9},
    "experts": {"model_type": "qwen3_moe", "num_experts": 16, "num_experts_per_tok": 2, "moe_intermediate_size": 64},
}
MODELS = {name: model_facts(a_config(**keys)) for name, keys in KINDS.items()}
VERSIONS = ["0.15.1", "0.17.0", "0.19.0", "0.20.0", "0.24.0", "0.26.0", "0.33.0"]
models = st.sampled_from(list(MODELS.values()))
versions = st.sampled_from(VERSIONS)


@PATIENT
@given(facts=models, version=versions, budget=st.integers(0, 1 << 36), more=st.integers(0, 1 << 30))
def test_more_memory_never_gives_fewer_tokens(facts: ModelFacts, version: str, budget: int, more: int):
    settings = Settings(version=version, max_model_len=2048)
    smaller = estimate(facts, replace(settings, kv_cache_bytes=budget), H100)
    larger = estimate(facts, replace(settings, kv_cache_bytes=budget + more), H100)
    assert larger.kv_tokens >= smaller.kv_tokens
    assert larger.max_concurrency >= smaller.max_concurrency
    assert budget // smaller.block_bytes * smaller.block_bytes <= budget


@PATIENT
@given(facts=models, version=versions, blocks=st.integers(0, 5000), most=st.integers(1, 1 << 18))
def test_the_longest_request_is_the_longest(facts: ModelFacts, version: str, blocks: int, most: int):
    question = vllm_question(facts, Settings(version=version), H100)
    (stage,) = pipeline_stages(facts.layers, 1)
    pool = kv_pool(facts, question, stage, most)
    longest = pool.longest_request(blocks, most)
    assert longest == 0 or pool.request_blocks(longest) <= blocks
    assert longest == most or pool.request_blocks(longest + 1) > blocks


@PATIENT
@given(facts=models, version=versions)
def test_a_longer_request_never_needs_fewer_blocks(facts: ModelFacts, version: str):
    question = vllm_question(facts, Settings(version=version, max_num_batched_tokens=256), H100)
    (stage,) = pipeline_stages(facts.layers, 1)
    pool = kv_pool(facts, question, stage, 2048)
    for tokens in (1, 100, 2048, 100_000):
        assert pool.request_blocks(tokens) <= pool.request_blocks(tokens + 1)


@PATIENT
@given(facts=models, version=versions, budget=st.integers(1 << 28, 1 << 36))
def test_bytes_per_token_say_how_many_tokens_a_budget_gives(facts: ModelFacts, version: str, budget: int):
    answer = estimate(facts, Settings(version=version, max_model_len=2048, kv_cache_bytes=budget), H100)
    if answer.kv_tokens > 100_000:
        assert budget / answer.kv_token_bytes == pytest.approx(answer.kv_tokens, rel=0.05)


@PATIENT
@given(facts=models, version=versions, tensor=st.sampled_from([1, 2, 4]), pipeline=st.sampled_from([1, 2, 3]))
def test_the_whole_budget_is_used_and_never_more(facts: ModelFacts, version: str, tensor: int, pipeline: int):
    settings = Settings(version=version, tensor_parallel=tensor, pipeline_parallel=pipeline, max_model_len=2048)
    answer = estimate(facts, settings, H100)
    inside = answer.weights.bytes + answer.activation.bytes + answer.buffers.bytes + answer.kv.bytes
    inside += answer.graphs.bytes if answer.graphs_in_budget else 0
    fraction = 0.92 if answer.graphs_in_budget else 0.90
    assert inside == pytest.approx(H100.total_bytes * fraction, abs=2)


@PATIENT
@given(layers=st.integers(1, 130), stages=st.integers(1, 16))
def test_stages_hold_every_layer_once(layers: int, stages: int):
    if stages > layers:
        return
    made = pipeline_stages(layers, stages)
    assert [layer for stage in made for layer in range(stage.first, stage.last)] == list(range(layers))
    sizes = [stage.last - stage.first for stage in made]
    assert max(sizes) - min(sizes) <= 1
    assert made[0].is_first
    assert made[-1].is_last


@PATIENT
@given(facts=models)
def test_ranks_together_hold_at_least_the_model_and_each_holds_less_with_more_ranks(facts: ModelFacts):
    sums = []
    for tensor in (1, 2, 4):
        question = vllm_question(facts, Settings(tensor_parallel=tensor), H100)
        (stage,) = pipeline_stages(facts.layers, 1)
        held = rank_weights(facts, question, stage).bytes
        assert held * tensor >= facts.weights.bytes * 0.999
        sums.append(held)
    assert sums == sorted(sums, reverse=True)


def test_splits_respect_heads_kv_heads_vocabulary_and_layers():
    facts = model_facts(a_config(num_attention_heads=12, num_key_value_heads=4, vocab_size=1000, num_hidden_layers=4))
    assert why_not(facts, 5, 1) == "12 attention heads cannot be divided by 5"
    assert why_not(facts, 6, 1) == "4 KV heads cannot be divided by 6, nor repeated on each rank"
    assert why_not(facts, 12, 1) == "a vocabulary of 1000 cannot be divided by 12"
    assert why_not(facts, 1, 5) == "4 layers cannot make 5 pipeline stages"
    assert list(splits(facts, 4)) == [(1, 1), (2, 1), (1, 2), (1, 3), (4, 1), (2, 2), (1, 4)]
    with pytest.raises(IndivisibleError, match="12 attention heads"):
        estimate(facts, Settings(tensor_parallel=5), H100)


def test_the_smallest_split_is_the_first_that_fits():
    config = a_config(
        hidden_size=8192, intermediate_size=28672, num_hidden_layers=80, num_attention_heads=64, num_key_value_heads=8,
        vocab_size=128256, max_position_embeddings=131072,
    )  # fmt: skip
    facts = model_facts(config)
    for asked in (Settings(max_model_len=8192), Settings(max_model_len=131_072), Settings(quantization="fp8")):
        found = smallest_split(facts, asked, H100, 8)
        tried = list(splits(facts, 8))
        assert found in tried
        fitting = [
            estimate(facts, replace(asked, tensor_parallel=tensor, pipeline_parallel=pipeline), H100).fits
            for tensor, pipeline in tried[: tried.index(found) + 1]
        ]
        assert fitting == [False] * (len(fitting) - 1) + [True]
        assert found[0] * found[1] > 1
    assert smallest_split(facts, Settings(max_model_len=8192), Gpu(24 * GIB), 4) is None


def test_graphs_move_into_the_budget_with_version_0_20():
    facts = MODELS["gqa"]
    before = estimate(facts, Settings(version="0.19.1", memory_fraction=0.9, max_model_len=2048), H100)
    after = estimate(facts, Settings(version="0.20.0", memory_fraction=0.9, max_model_len=2048), H100)
    assert before.kv.bytes - after.kv.bytes == after.graphs.bytes
    eager = estimate(facts, Settings(version="0.20.0", memory_fraction=0.9, enforce_eager=True), H100)
    assert eager.graphs.bytes == 0


def test_the_meaning_of_the_logged_size_changed_with_version_0_24():
    facts = MODELS["window hybrid"]
    settings = Settings(max_model_len=4096, kv_cache_bytes=GIB)
    before = estimate(facts, replace(settings, version="0.23.0"), H100)
    after = estimate(facts, replace(settings, version="0.24.0"), H100)
    assert before.max_concurrency == after.max_concurrency
    assert after.kv_tokens == int(after.max_concurrency * 4096)
    assert before.kv_tokens % 16 == 0
    assert before.kv_tokens != after.kv_tokens


def test_fp8_halves_the_cache_and_latent_caches_are_not_divided():
    wide = estimate(MODELS["gqa"], Settings(kv_cache_bytes=GIB), H100)
    narrow = estimate(MODELS["gqa"], Settings(kv_cache_bytes=GIB, kv_cache_type="fp8"), H100)
    assert narrow.kv_token_bytes * 2 == wide.kv_token_bytes
    alone = estimate(MODELS["latent"], Settings(kv_cache_bytes=GIB), H100)
    split = estimate(MODELS["latent"], Settings(kv_cache_bytes=GIB, tensor_parallel=4), H100)
    assert alone.kv_token_bytes == split.kv_token_bytes == 4 * 576 * 2
    packed = estimate(MODELS["latent"], Settings(kv_cache_bytes=GIB, kv_cache_type="fp8_ds_mla"), H100)
    assert packed.kv_token_bytes == 4 * 656
    strange = estimate(MODELS["gqa"], Settings(kv_cache_bytes=GIB, kv_cache_type="ultraquant_4bit"), H100)
    assert strange.kv_token_bytes == wide.kv_token_bytes
    assert any("ultraquant_4bit" in line for line in strange.unknown)


def test_experts_are_divided_over_data_parallel_ranks_too():
    facts = MODELS["experts"]
    alone = estimate(facts, Settings(), H100).weights.bytes
    divided = estimate(facts, Settings(data_parallel=4, expert_parallel=True), H100).weights.bytes
    experts = sum(layer.expert_bytes for layer in facts.weights.layers)
    assert alone - divided == pytest.approx(experts * 3 / 4, abs=4)


def test_what_was_measured_replaces_what_was_predicted_and_shrinks_the_error():
    facts, settings = MODELS["gqa"], Settings(max_model_len=2048)
    predicted = estimate(facts, settings, H100)
    starts = Calibration({"activation": Measured(3 * GIB), "buffers": Measured(GIB, GIB // 50)})
    corrected = estimate(facts, settings, H100, starts)
    assert corrected.activation.bytes == 3 * GIB
    assert corrected.activation.source is Source.MEASURED
    assert corrected.kv.error_bytes < predicted.kv.error_bytes
    shift = (3 * GIB - predicted.activation.bytes) + (GIB - predicted.buffers.bytes)
    assert predicted.kv.bytes - corrected.kv.bytes == shift


@PATIENT
@given(
    chosen=st.lists(
        st.tuples(models, versions, st.integers(1, 64), st.sampled_from([256, 2048, 4096])), min_size=1, max_size=5
    )
)
def test_engines_that_share_a_gpu_all_start(chosen: list[tuple[ModelFacts, str, int, int]]):
    wanted = [
        Wanted(estimate(facts, Settings(version=version, max_model_len=length, max_num_seqs=16), H100), requests)
        for facts, version, requests, length in chosen
    ]
    try:
        shares = share_gpu(wanted, H100)
    except EstimateError:
        return
    held = 0
    for want, share in zip(wanted, shares, strict=True):
        free_at_start = H100.total_bytes - held - want.estimate.context.bytes
        assert share.gpu_memory_utilization * H100.total_bytes <= free_at_start
        assert share.kv_cache_bytes >= want.estimate.block_bytes * want.estimate.request_blocks * want.requests
        held += share.reserve_bytes
    assert held <= H100.total_bytes


def test_engines_that_do_not_fit_together_are_refused():
    large = estimate(model_facts(a_config(), weight_bytes=45 * GIB), Settings(max_model_len=2048), H100)
    with pytest.raises(EstimateError, match="together they need"):
        share_gpu([Wanted(large), Wanted(large)], H100)


def test_a_shared_utilization_gives_the_cache_that_was_asked_for():
    facts, settings = MODELS["gqa"], Settings(max_model_len=4096)
    (share,) = share_gpu([Wanted(estimate(facts, settings, H100), 32)], H100)
    answer = estimate(facts, replace(settings, memory_fraction=share.gpu_memory_utilization), H100)
    assert answer.fits
    assert answer.max_concurrency >= 32


def test_default_batches_follow_the_gpu():
    facts = MODELS["gqa"]

    def batch(gpu: Gpu, version: str = "0.33.0"):
        question = vllm_question(facts, Settings(version=version), gpu)
        return question.max_num_batched_tokens, question.max_num_seqs

    assert batch(H100) == (8192, 1024)
    assert batch(Gpu(80 * GIB, "NVIDIA A100-SXM4-80GB")) == (2048, 256)
    assert batch(Gpu(24 * GIB)) == (2048, 256)
    assert batch(Gpu(180 * GIB)) == (16384, 1024)
    assert batch(Gpu(180 * GIB), "0.19.0") == (8192, 1024)


def test_sglang_takes_its_share_of_what_is_free():
    config = a_config(
        hidden_size=4096, intermediate_size=14336, num_hidden_layers=47, num_attention_heads=32, num_key_value_heads=2,
        head_dim=64, vocab_size=128256,
    )  # fmt: skip
    # A published start: 367,404 tokens of 24,064 bytes are 8.23 GiB.
    answer = estimate(
        model_facts(config), Settings(engine="sglang", version="0.5.23", kv_cache_bytes=8_841_052_000), H100
    )
    assert answer.kv_token_bytes == 47 * 2 * 128 * 2 == 24_064
    assert answer.kv_tokens == pytest.approx(367_404, rel=0.001)
    default = estimate(MODELS["gqa"], Settings(engine="sglang", version="0.5.23", max_model_len=2048), H100)
    assert default.fits
    free = H100.total_bytes - default.context.bytes
    assert default.weights.bytes + default.kv.bytes == pytest.approx(free * 0.834, rel=0.001)


def test_an_engine_without_rules_is_refused():
    with pytest.raises(EstimateError, match="no memory rules"):
        estimate(MODELS["gqa"], Settings(engine="tabbyapi"), H100)
