"""How many parameters a Mamba or linear-attention layer has, from the same keys as its state (`state_shapes`)."""

from studio_coordinator.plan.memory.config_text import Config, integer
from studio_coordinator.plan.memory.facts import StateCache


def state_parameters(text: Config, hidden: int, state: StateCache | None) -> int:
    """Parameters of the mixer of one such layer; 0 where it has none."""
    if state is None:
        return 0
    convolution = (state.conv_channels + state.groups * state.group_channels) * state.conv_kernel
    if integer(text, "linear_num_key_heads") and integer(text, "linear_key_head_dim"):
        return convolution + _gated_delta(text, hidden, state.conv_channels)
    if isinstance(text.get("linear_attn_config"), dict):
        return convolution + _kimi_delta(text["linear_attn_config"], hidden)
    inner = state.conv_channels
    if not state.state_elements:
        # A short convolution: two gates and its input, and the output.
        return convolution + 4 * hidden * inner
    if state.groups:
        heads = integer(text, "mamba_n_heads", "mamba_num_heads", "n_mamba_heads", "num_heads") or 0
        # Input and gate, B and C of each group, a step for each head; output.
        return convolution + hidden * (3 * inner + state.groups * state.group_channels + heads)
    return convolution + _mamba1(text, hidden, inner, state.state_elements)


def _gated_delta(text: Config, hidden: int, channels: int) -> int:
    keys = (integer(text, "linear_num_key_heads") or 0) * (integer(text, "linear_key_head_dim") or 0)
    values = channels - 2 * keys
    heads = integer(text, "linear_num_value_heads") or 1
    # Projections to q, k, v and the gate z; two scalars per value head; output.
    return hidden * (channels + values + 2 * heads) + values * hidden


def _kimi_delta(linear: Config, hidden: int) -> int:
    heads, head_dim = integer(linear, "num_heads") or 1, integer(linear, "head_dim") or hidden
    inner = heads * head_dim
    # q, k, v and the output; two gates of low rank; a scalar per head.
    return 4 * hidden * inner + 2 * (hidden * head_dim + head_dim * inner) + hidden * heads


def _mamba1(text: Config, hidden: int, inner: int, state_elements: int) -> int:
    rank = integer(text, "mamba_dt_rank", "time_step_rank") or -(-hidden // 16)
    # Input and gate, output; the step of low rank, B and C; A.
    return 3 * hidden * inner + inner * (2 * rank + 2 * state_elements // inner) + state_elements
