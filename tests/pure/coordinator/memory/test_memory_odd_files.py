"""Config files that nobody foresaw: an estimate with what is unknown in it, or a refusal; never a zero, never a traceback."""

from contextlib import suppress
from typing import Any

import pytest
from fakes.models import LLAMA_8B
from hypothesis import given, settings
from hypothesis import strategies as st
from studio_coordinator.plan.memory.answer import estimate
from studio_coordinator.plan.memory.errors import EstimateError, NothingKnownError
from studio_coordinator.plan.memory.model import model_facts
from studio_coordinator.plan.memory.settings import Gpu, Settings

GIB = 2**30
KEYS = [
    *LLAMA_8B, "layer_types", "sliding_window", "sliding_window_pattern", "rope_scaling", "attn_type_list", "text_config",
    "linear_attn_config", "quantization_config", "vision_config", "num_local_experts", "mamba_d_state", "kv_lora_rank",
    "hybrid_override_pattern", "partial_rotary_factor", "mlp_only_layers", "architectures", "attn_config",
]  # fmt: skip
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-10, 10**6), st.floats(), st.text(max_size=5))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.sampled_from(KEYS), inner, max_size=3)),
    max_leaves=6,
)


def kv_token_bytes(config: dict[str, Any], weight_bytes: int) -> float:
    answer = estimate(model_facts(config, weight_bytes=weight_bytes), Settings("vllm", "0.33.0"), Gpu(80 * GIB))
    assert answer.weights.bytes > 0
    return answer.kv_token_bytes


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=4), st.sampled_from([0, 16 * GIB]))
def test_whatever_a_file_says_there_is_an_estimate_or_a_refusal(odd: dict[str, Any], weight_bytes: int) -> None:
    with suppress(EstimateError):
        kv_token_bytes(LLAMA_8B | odd, weight_bytes)


def test_a_file_does_not_keep_its_reader_busy_for_hours() -> None:
    with pytest.raises(EstimateError, match="1000000000 layers"):
        model_facts(LLAMA_8B | {"num_hidden_layers": 10**9})


def test_nothing_is_estimated_of_a_model_of_which_nothing_is_known() -> None:
    with pytest.raises(NothingKnownError):
        model_facts({"architectures": ["NovelForCausalLM"]})


def test_quantized_weights_bound_a_larger_model_than_plain_ones_of_the_same_size() -> None:
    unknown = {"architectures": ["NovelForCausalLM"]}
    narrow = unknown | {"quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 128}}
    assert kv_token_bytes(narrow, 16 * GIB) > 1.5 * kv_token_bytes(unknown, 16 * GIB)


@pytest.mark.parametrize(
    ("odd", "said"),
    [
        ({"num_key_value_heads": [2, 8, 4]}, "KV heads: they differ from layer to layer, bounded by the most, 8"),
        (
            {
                "num_key_value_heads": None,
                "block_configs": [{"attention": {"n_heads_in_group": n}} for n in (8, None, 4)],
            },
            "KV heads: they differ from layer to layer, bounded by the most, 8",
        ),
        ({"layer_types": ["full_attention"]}, "layer types: only 1 of 32 are there"),
        ({"torch_dtype": "float6"}, "element type 'float6': counted as 16 bits"),
        ({"quantization_config": "awq"}, "quantization 'awq': counted as unquantized bfloat16"),
    ],
)
def test_what_had_to_be_bounded_is_said(odd: dict[str, Any], said: str) -> None:
    unknown = model_facts(LLAMA_8B | odd).unknown
    assert any(line.startswith(said) for line in unknown), unknown


def test_an_embedding_for_each_layer_is_counted() -> None:
    plain = model_facts(LLAMA_8B)
    odd = model_facts(LLAMA_8B | {"hidden_size_per_layer_input": 256, "vocab_size_per_layer_input": 1000})
    assert odd.weights.bytes - plain.weights.bytes == 32 * 256 * 1000 * 2


def test_of_several_groups_of_quantized_layers_the_widest_bounds_the_weights() -> None:
    groups = {"narrow": {"weights": {"num_bits": 4}}, "wide": {"weights": {"num_bits": 8}}}

    def weights(chosen: dict[str, Any]) -> int:
        settings_of = {"quant_method": "compressed-tensors", "config_groups": chosen}
        return model_facts(LLAMA_8B | {"quantization_config": settings_of}).weights.bytes

    assert weights(groups) == weights({"wide": groups["wide"]}) > weights({"narrow": groups["narrow"]})
