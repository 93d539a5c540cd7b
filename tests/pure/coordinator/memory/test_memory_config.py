"""Reading config.json: every way to say a layer pattern, defaults that files leave out, and what is unknown."""

from typing import Any

import pytest
from fakes.checkpoints import a_config
from hypothesis import given, settings
from hypothesis import strategies as st
from studio_coordinator.plan.memory.answer import estimate
from studio_coordinator.plan.memory.config_text import text_section
from studio_coordinator.plan.memory.facts import AttentionCache, LatentCache, StateCache
from studio_coordinator.plan.memory.layer_pattern import LayerKind, layer_kinds
from studio_coordinator.plan.memory.model import model_facts
from studio_coordinator.plan.memory.parts import Source
from studio_coordinator.plan.memory.settings import Gpu, Settings
from studio_coordinator.plan.memory.sizes import GIB

# The machine may be busy with other tests.
PATIENT = settings(deadline=None)

LETTERS = {
    LayerKind.FULL: "F",
    LayerKind.WINDOW: "W",
    LayerKind.CHUNK: "C",
    LayerKind.STATE: "S",
    LayerKind.BOTH: "B",
    LayerKind.NONE: "-",
}

PATTERNS = [
    ({"model_type": "llama"}, "FFFFFF"),
    ({"model_type": "mistral", "sliding_window": 4096}, "WWWWWW"),
    ({"model_type": "mistral", "sliding_window": None}, "FFFFFF"),
    ({"model_type": "qwen2", "sliding_window": 131072}, "FFFFFF"),
    ({"model_type": "qwen2", "sliding_window": 4096, "use_sliding_window": True, "max_window_layers": 4}, "FFFFWW"),
    ({"model_type": "gemma2"}, "WFWFWF"),
    ({"model_type": "gemma3_text"}, "WWWWWF"),
    ({"model_type": "cohere2"}, "WWWFWW"),
    ({"model_type": "exaone4", "sliding_window": 4096, "sliding_window_pattern": "LLLG"}, "WWWFWW"),
    ({"model_type": "gpt_oss"}, "WFWFWF"),
    ({"model_type": "gpt_oss", "layer_types": ["full_attention", "sliding_attention"] * 3}, "FWFWFW"),
    ({"model_type": "llama4_text"}, "CCCFCC"),
    ({"model_type": "qwen3_next"}, "SSSFSS"),
    ({"model_type": "jamba", "attn_layer_period": 3, "attn_layer_offset": 1}, "SFSSFS"),
    ({"model_type": "bamba", "attn_layer_indices": [2]}, "SSFSSS"),
    ({"model_type": "lfm2", "full_attn_idxs": [1, 4]}, "SFSSFS"),
    ({"model_type": "nemotron_h", "hybrid_override_pattern": "M-M*-M"}, "S-SF-S"),
    ({"model_type": "kimi_linear", "linear_attn_config": {"full_attn_layers": [4]}}, "SSSFSS"),
    ({"model_type": "minimax", "attn_type_list": [0, 0, 1, 0, 0, 1]}, "SSFSSF"),
    ({"model_type": "falcon_h1"}, "BBBBBB"),
    ({"model_type": "mamba2"}, "SSSSSS"),
    ({"model_type": "zamba2", "layers_block_type": ["mamba", "hybrid"] * 3}, "SBSBSB"),
]


@pytest.mark.parametrize(("config", "letters"), PATTERNS, ids=[str(config) for config, _ in PATTERNS])
def test_layer_pattern(config: dict[str, Any], letters: str):
    kinds, unknown = layer_kinds(text_section(config), 6)
    assert "".join(LETTERS[kind] for kind in kinds) == letters
    assert unknown == ()


def test_a_layer_type_that_is_not_known_counts_as_full_attention_and_is_named():
    facts = model_facts(a_config(layer_types=["full_attention", "quantum_attention"] * 2))
    assert all(isinstance(layer[0], AttentionCache) for layer in facts.caches)
    assert facts.unknown == ("layer type 'quantum_attention', counted as full attention",)


def test_the_section_of_a_multimodal_file_is_found_and_its_defaults_filled_in():
    config = {
        "architectures": ["Gemma3ForConditionalGeneration"],
        "model_type": "gemma3",
        "torch_dtype": "bfloat16",
        "text_config": {"model_type": "gemma3_text", "hidden_size": 2560, "num_hidden_layers": 34},
        "vision_config": {"hidden_size": 1152, "num_hidden_layers": 27, "intermediate_size": 4304},
    }
    facts = model_facts(config)
    assert (facts.vocabulary, facts.attention_heads, facts.multimodal) == (262_208, 8, True)
    assert facts.caches[0] == (AttentionCache(4, 256, 256, window=4096),)
    assert facts.weights.head_bytes == 0
    assert facts.weights.tower_bytes > 0


def test_latent_attention_keeps_one_vector():
    facts = model_facts(a_config(model_type="deepseek_v3", num_key_value_heads=8, index_head_dim=128))
    assert facts.latent
    assert facts.caches[0] == (LatentCache(576, 128),)


def test_shared_caches_are_counted_once():
    facts = model_facts(a_config(model_type="gemma3n_text", num_kv_shared_layers=2))
    assert [len(layer) for layer in facts.caches] == [1, 1, 0, 0]


def test_state_shapes_of_each_family():
    def state(**keys: Any):
        (cache,) = model_facts(a_config(**keys)).caches[0]
        assert isinstance(cache, StateCache)
        return cache

    delta = state(model_type="qwen3_next", mamba_ssm_dtype="float32")
    assert (delta.conv_channels, delta.state_elements, delta.state_type) == (8192, 32 * 128 * 128, "float32")
    mamba2 = state(
        model_type="bamba",
        attn_layer_indices=[3],
        mamba_n_heads=128,
        mamba_d_head=64,
        mamba_d_state=128,
        mamba_n_groups=1,
    )
    assert (mamba2.conv_channels, mamba2.groups, mamba2.group_channels) == (8192, 1, 256)
    assert mamba2.state_elements == 128 * 64 * 128
    mamba1 = state(model_type="jamba", attn_layer_period=4, attn_layer_offset=3, mamba_d_state=16, mamba_expand=2)
    assert (mamba1.conv_channels, mamba1.state_elements) == (512, 512 * 16)
    short = state(model_type="lfm2", full_attn_idxs=[3], conv_L_cache=3)
    assert (short.conv_channels, short.conv_kernel, short.state_elements) == (256, 3, 0)
    kimi = {"full_attn_layers": [4], "num_heads": 4, "head_dim": 32, "short_conv_kernel_size": 4}
    assert state(model_type="kimi_linear", linear_attn_config=kimi).state_elements == 4 * 32 * 32


def test_a_hybrid_of_an_unknown_family_has_a_bounded_state():
    facts = model_facts(a_config(layer_types=["mamba", "full_attention"] * 2))
    assert any("fixed state" in line for line in facts.unknown)
    assert isinstance(facts.caches[0][0], StateCache)


@PATIENT
@given(
    keys=st.dictionaries(
        st.sampled_from(
            [
                "num_hidden_layers",
                "hidden_size",
                "num_attention_heads",
                "num_key_value_heads",
                "vocab_size",
                "model_type",
            ]
        ),
        st.none(),
    ),
    weight_bytes=st.integers(1, 1 << 40),
)
def test_whatever_is_missing_nothing_is_counted_as_zero(keys: dict[str, Any], weight_bytes: int):
    config = {key: value for key, value in a_config().items() if key not in keys}
    facts = model_facts(config, weight_bytes=weight_bytes)
    answer = estimate(facts, Settings(max_model_len=1024), Gpu(80 * GIB))
    assert answer.kv_token_bytes > 0
    assert answer.weights.bytes > 0
    assert answer.activation.bytes > 0


def test_an_empty_config_is_bounded_from_the_weights_alone():
    facts = model_facts({}, weight_bytes=16 * GIB)
    answer = estimate(facts, Settings(max_model_len=1024), Gpu(80 * GIB))
    # A real model of this size keeps 131,072 bytes a token with GQA, 524,288 without.
    assert answer.kv_token_bytes >= 524_288
    assert answer.weights.bytes >= 16 * GIB
    assert len(facts.unknown) >= 3


def test_the_bound_is_above_what_the_whole_config_gives():
    config = a_config()
    known = model_facts(config)
    del config["num_attention_heads"], config["num_key_value_heads"]
    bounded = model_facts(config)
    settings, gpu = Settings(max_model_len=1024), Gpu(80 * GIB)
    assert estimate(bounded, settings, gpu).kv_token_bytes >= estimate(known, settings, gpu).kv_token_bytes
    assert bounded.unknown


def test_an_unknown_quantization_is_a_bound():
    facts = model_facts(a_config(quantization_config={"quant_method": "esoteric"}))
    assert facts.weights.source is Source.BOUND
    assert facts.weights.bytes == model_facts(a_config()).weights.bytes


@pytest.mark.parametrize(
    ("quantization", "ratio"),
    [
        ({"quant_method": "gptq", "bits": 4, "group_size": 128}, 0.52 / 2),
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, 0.52 / 2),
        ({"quant_method": "fp8"}, 0.5),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, 0.5625 / 2),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, 0.5625 / 2),
        ({"quant_method": "compressed-tensors", "config_groups": {"g": {"weights": {"num_bits": 8}}}}, 0.5),
    ],
)
def test_quantized_layers_shrink_and_embeddings_do_not(quantization: dict[str, Any], ratio: float):
    plain, quantized = model_facts(a_config()), model_facts(a_config(quantization_config=quantization))
    assert quantized.weights.embedding_bytes == plain.weights.embedding_bytes
    shrunk = sum(layer.bytes for layer in quantized.weights.layers) / sum(layer.bytes for layer in plain.weights.layers)
    assert shrunk == pytest.approx(ratio, rel=0.02)


# Parameters that the models' own pages state, in billions.
COUNTS = [
    ("mixtral", {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32}, 46.70),
    (
        "deepseek_v2",
        {
            "hidden_size": 2048, "intermediate_size": 10944, "moe_intermediate_size": 1408, "num_hidden_layers": 27,
            "num_attention_heads": 16, "n_routed_experts": 64, "num_experts_per_tok": 6, "first_k_dense_replace": 1,
            "q_lora_rank": None,
        },
        15.71,
    ),
    (
        "deepseek_v3",
        {
            "hidden_size": 7168, "intermediate_size": 18432, "moe_intermediate_size": 2048, "num_hidden_layers": 61,
            "num_attention_heads": 128, "n_routed_experts": 256, "num_experts_per_tok": 8,
        },
        671.0,
    ),
    (
        "phi3",
        {
            "hidden_size": 5120, "intermediate_size": 17920, "num_hidden_layers": 40, "num_attention_heads": 40,
            "num_key_value_heads": 10, "vocab_size": 100352,
        },
        14.66,
    ),
    (
        "qwen2",
        {
            "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14,
            "num_key_value_heads": 2, "tie_word_embeddings": True,
        },
        0.494,
    ),
    (
        "qwen3_next",
        {
            "hidden_size": 2048, "intermediate_size": 5120, "moe_intermediate_size": 512, "num_hidden_layers": 48,
            "shared_expert_intermediate_size": 512, "num_attention_heads": 16, "num_key_value_heads": 2,
            "num_experts": 512, "num_experts_per_tok": 10,
        },
        79.7,
    ),
    ("gpt2", {"n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024}, 0.1237),
    ("falcon", {"hidden_size": 4544, "num_hidden_layers": 32, "num_attention_heads": 71}, 6.92),
    ("bloom", {"hidden_size": 1024, "n_layer": 24, "num_attention_heads": 16}, 0.559),
    ("mpt", {"d_model": 4096, "n_layers": 32, "n_heads": 32, "vocab_size": 50432, "attn_config": {"alibi": True}}, 6.65),
    (
        "dbrx",
        {
            "d_model": 6144, "n_layers": 40, "n_heads": 48, "vocab_size": 100352, "tie_word_embeddings": False,
            "attn_config": {"kv_n_heads": 8}, "ffn_config": {"ffn_hidden_size": 10752, "moe_num_experts": 16, "moe_top_k": 4},
        },
        131.6,
    ),
    (
        "qwen",
        {
            "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "intermediate_size": 22016,
            "vocab_size": 151936, "tie_word_embeddings": False,
        },
        7.721,
    ),
    (
        "falcon_mamba",
        {
            "hidden_size": 4096, "num_hidden_layers": 64, "intermediate_size": 8192, "state_size": 16, "conv_kernel": 4,
            "expand": 2, "time_step_rank": 256, "vocab_size": 65024, "tie_word_embeddings": False,
        },
        7.272,
    ),
    (
        "jamba",
        {
            "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
            "intermediate_size": 14336, "num_experts": 16, "num_experts_per_tok": 2, "attn_layer_period": 8,
            "attn_layer_offset": 4, "expert_layer_period": 2, "expert_layer_offset": 1, "mamba_d_state": 16,
            "mamba_d_conv": 4, "mamba_expand": 2, "mamba_dt_rank": 256, "vocab_size": 65536, "tie_word_embeddings": False,
        },
        51.57,
    ),
    (
        "nemotron_h",
        {
            "hidden_size": 4096, "num_hidden_layers": 52, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
            "intermediate_size": 21504, "mamba_num_heads": 128, "mamba_head_dim": 64, "ssm_state_size": 128, "n_groups": 8,
            "conv_kernel": 4, "vocab_size": 131072, "tie_word_embeddings": False,
            "hybrid_override_pattern": "M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M-",
        },
        8.10,
    ),
    (
        "kimi_linear",
        {
            "hidden_size": 2304, "num_hidden_layers": 27, "num_attention_heads": 32, "num_key_value_heads": 32,
            "intermediate_size": 9216, "moe_intermediate_size": 1024, "num_experts": 256, "num_experts_per_token": 8,
            "num_shared_experts": 1, "first_k_dense_replace": 1, "kv_lora_rank": 512, "q_lora_rank": None, "head_dim": 72,
            "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128, "vocab_size": 163840,
            "tie_word_embeddings": False,
            "linear_attn_config": {
                "full_attn_layers": [4, 8, 12, 16, 20, 24, 27], "num_heads": 32, "head_dim": 128, "short_conv_kernel_size": 4,
            },
        },
        49.1,
    ),
    (
        "lfm2",
        {
            "hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8,
            "block_ff_dim": 12288, "block_multiple_of": 256, "conv_L_cache": 3, "vocab_size": 65536,
            "full_attn_idxs": [2, 5, 8, 10, 12, 14], "tie_word_embeddings": True,
        },
        1.170,
    ),
    (
        "hunyuan_v1_moe",
        {
            "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
            "head_dim": 128, "intermediate_size": 3072, "moe_intermediate_size": [3072] * 32, "num_experts": 64,
            "num_shared_expert": [1] * 32, "moe_topk": [8] * 32, "vocab_size": 128167, "tie_word_embeddings": True,
        },
        80.39,
    ),
    (
        "ernie4_5_moe",
        {
            "hidden_size": 2560, "num_hidden_layers": 28, "num_attention_heads": 20, "num_key_value_heads": 4,
            "head_dim": 128, "intermediate_size": 12288, "moe_intermediate_size": 1536, "moe_num_experts": 64,
            "moe_num_shared_experts": 2, "moe_k": 6, "moe_layer_start_index": 1, "moe_layer_end_index": 27,
            "moe_layer_interval": 1, "vocab_size": 103424, "tie_word_embeddings": True,
        },
        21.83,
    ),
    (
        "llama4_text",
        {
            "hidden_size": 5120, "num_hidden_layers": 48, "num_attention_heads": 40, "num_key_value_heads": 8,
            "intermediate_size": 8192, "intermediate_size_mlp": 16384, "num_local_experts": 128,
            "interleave_moe_layer_step": 2,
        },
        400.7,
    ),
]  # fmt: skip


@pytest.mark.parametrize(("model_type", "keys", "billions"), COUNTS, ids=[count[0] for count in COUNTS])
def test_counted_parameters_are_those_that_are_published(model_type: str, keys: dict[str, Any], billions: float):
    facts = model_facts({"model_type": model_type, "torch_dtype": "bfloat16", "max_position_embeddings": 4096} | keys)
    assert facts.weights.bytes / 2e9 == pytest.approx(billions, rel=0.005)
    assert facts.unknown == ()
