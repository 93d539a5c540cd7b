"""Bytes per weight of a quantized checkpoint, from the `quantization_config` of its config.json.

Scales and zero points are stored beside the weights, so they are part of the width. Where the tensors themselves were
read, these widths are not used at all.
"""

from dataclasses import dataclass
from typing import Any

from studio_coordinator.plan.memory.config_text import Config, integer
from studio_coordinator.plan.memory.sizes import element_bytes


@dataclass(frozen=True)
class WeightWidth:
    """Bytes of one weight of a linear layer and of a routed expert; everything else is stored unquantized."""

    method: str
    linear_bytes: float
    expert_bytes: float
    plain_bytes: float
    unknown: tuple[str, ...] = ()


def weight_width(text: Config, element_type: str) -> WeightWidth:
    """Width of the weights of the model that `text` describes; an unknown method counts as unquantized, a bound."""
    plain = element_bytes(element_type) or 2
    settings = text.get("quantization_config")
    if not isinstance(settings, dict):
        unknown = (f"quantization {settings!r}: counted as unquantized {element_type}",) if settings else ()
        return WeightWidth("", plain, plain, plain, unknown)
    method = str(settings.get("quant_method", "")).lower()
    if method == "mxfp4":
        # One shared 8-bit exponent for each 32 weights; only the experts are quantized.
        return WeightWidth(method, plain, 0.5 + 1 / 32, plain)
    width = _linear_width(method, settings)
    if width is None:
        unknown = (f"quantization {method!r}: counted as unquantized {element_type}",)
        return WeightWidth(method, plain, plain, plain, unknown)
    return WeightWidth(method, width, width, plain)


def cache_type(text: Config) -> str:
    """The type in which the checkpoint wants its KV cache kept, which `auto` follows; empty where it does not say.

    vLLM: `resolve_kv_cache_dtype_string` for ModelOpt's `kv_cache_quant_algo`, `Attention` for a `kv_cache_scheme`.
    """
    settings = text.get("quantization_config")
    if not isinstance(settings, dict):
        return ""
    algorithm = str(settings.get("kv_cache_quant_algo") or "").lower()
    if algorithm in {"fp8", "nvfp4"}:
        return algorithm
    scheme = settings.get("kv_cache_scheme")
    return "fp8" if isinstance(scheme, dict) and integer(scheme, "num_bits") == 8 else ""  # noqa: PLR2004 - bits


def with_quantization_file(config: Config, content: Any) -> dict[str, Any]:
    """`config` with what ModelOpt writes to hf_quant_config.json beside it, where config.json does not say it itself."""
    found = content.get("quantization") if isinstance(content, dict) else None
    if not isinstance(found, dict) or config.get("quantization_config"):
        return dict(config)
    return dict(config) | {"quantization_config": {"quant_method": "modelopt", **found}}


def _linear_width(method: str, settings: dict[str, Any]) -> float | None:
    if method == "compressed-tensors":
        return _compressed_width(settings)
    if method.startswith("modelopt"):
        return 0.5 + 1 / 16 if "FP4" in str(settings.get("quant_algo", "")).upper() else 1.0
    if method in {"bitsandbytes", "bitsandbytes_4bit"}:
        return 0.5 + 4 / 64 if settings.get("load_in_4bit", method.endswith("4bit")) else 1.0
    if "fp8" in method:
        block = settings.get("weight_block_size")
        return 1.0 + (4 / (block[0] * block[1]) if isinstance(block, list) and len(block) == 2 else 0.0)  # noqa: PLR2004 - rows, columns
    bits = integer(settings, "bits", "w_bit")
    if bits is None:
        return None
    return _grouped_width(bits, integer(settings, "group_size", "q_group_size") or 128, zero_points=True)


def _compressed_width(settings: dict[str, Any]) -> float | None:
    groups = settings.get("config_groups")
    if not isinstance(groups, dict) or not groups:
        return None
    # The widest of them: which layers are in which group is not looked at.
    widths = [_group_width(group.get("weights")) for group in groups.values() if isinstance(group, dict)]
    known = [width for width in widths if width is not None]
    return max(known) if len(known) == len(groups) else None


def _group_width(weights: Any) -> float | None:
    if not isinstance(weights, dict):
        return None
    bits = integer(weights, "num_bits")
    if bits is None:
        return None
    group = integer(weights, "group_size") or 0
    if group > 0 and bits == 4 and weights.get("type") == "float":  # noqa: PLR2004 - fp4
        # An 8-bit scale for each group: nvfp4 has groups of 16, mxfp4 of 32.
        return bits / 8 + 1 / group
    return bits / 8 if group <= 0 else _grouped_width(bits, group, zero_points=not weights.get("symmetric", True))


def _grouped_width(bits: int, group: int, *, zero_points: bool) -> float:
    """A 16-bit scale per group, and a zero point of `bits` bits where the method keeps one."""
    if group <= 0:
        return bits / 8
    return bits / 8 + (2 + (bits / 8 if zero_points else 0)) / group
