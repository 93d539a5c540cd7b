"""Shapes of the fixed state of Mamba and linear-attention layers, from the keys that their families use.

Conventions follow vLLM's `model_executor/layers/mamba/mamba_utils.py`: gated delta net, Kimi delta attention, Mamba 2,
Mamba 1, short convolution.
"""

from studio_coordinator.plan.memory.config_text import Config, integer
from studio_coordinator.plan.memory.facts import StateCache


def state_cache(text: Config, hidden_size: int) -> StateCache | None:
    """The state of one such layer; None when the keys of no known family are there."""
    for family in (_gated_delta, _kimi_delta, _mamba2, _mamba1, _short_convolution):
        cache = family(text, hidden_size)
        if cache is not None:
            return cache
    return None


def _gated_delta(text: Config, _hidden: int) -> StateCache | None:
    key_heads, value_heads = integer(text, "linear_num_key_heads"), integer(text, "linear_num_value_heads")
    key_dim, value_dim = integer(text, "linear_key_head_dim"), integer(text, "linear_value_head_dim")
    if not (key_heads and value_heads and key_dim and value_dim):
        return None
    return StateCache(
        conv_channels=2 * key_heads * key_dim + value_heads * value_dim,
        conv_kernel=integer(text, "linear_conv_kernel_dim") or 4,
        state_elements=value_heads * value_dim * key_dim,
        state_type=str(text.get("mamba_ssm_dtype") or ""),
    )


def _kimi_delta(text: Config, _hidden: int) -> StateCache | None:
    linear = text.get("linear_attn_config")
    if not isinstance(linear, dict):
        return None
    heads, head_dim = integer(linear, "num_heads"), integer(linear, "head_dim")
    if not (heads and head_dim):
        return None
    return StateCache(
        conv_channels=3 * heads * head_dim,
        conv_kernel=integer(linear, "short_conv_kernel_size") or 4,
        state_elements=heads * head_dim * head_dim,
        state_type="float32",
    )


def _mamba2(text: Config, hidden: int) -> StateCache | None:
    heads = integer(text, "mamba_n_heads", "mamba_num_heads", "n_mamba_heads")
    if heads is None and text.get("model_type") == "mamba2":
        heads = integer(text, "num_heads")
    head_dim = integer(text, "mamba_d_head", "mamba_head_dim", "mamba_headdim")
    if head_dim is None and text.get("model_type") == "mamba2":
        head_dim = integer(text, "head_dim")
    state = integer(text, "mamba_d_state", "ssm_state_size", "state_size")
    if not (heads and state):
        return None
    inner = heads * head_dim if head_dim else (integer(text, "mamba_expand", "expand") or 2) * hidden
    default_type = "float32" if text.get("model_type") == "nemotron_h" else ""
    return StateCache(
        conv_channels=inner,
        conv_kernel=integer(text, "mamba_d_conv", "conv_kernel") or 4,
        state_elements=inner * state,
        state_type=str(text.get("mamba_ssm_cache_dtype") or default_type),
        groups=integer(text, "mamba_n_groups", "mamba_ngroups", "n_groups") or 1,
        group_channels=2 * state,
    )


def _mamba1(text: Config, hidden: int) -> StateCache | None:
    state = integer(text, "mamba_d_state", "state_size")
    if not state:
        return None
    expand = integer(text, "mamba_expand", "expand") or 2
    own_inner = integer(text, "intermediate_size") if text.get("model_type") in {"mamba", "falcon_mamba"} else None
    inner = own_inner or expand * hidden
    return StateCache(inner, integer(text, "mamba_d_conv", "conv_kernel") or 4, inner * state)


def _short_convolution(text: Config, hidden: int) -> StateCache | None:
    kernel = integer(text, "conv_L_cache")
    if not kernel:
        return None
    return StateCache(integer(text, "conv_dim") or hidden, kernel, 0)
