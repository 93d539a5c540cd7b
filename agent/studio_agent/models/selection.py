"""Which files of a repository engines want. Pure.

Many repositories hold the same weights several times. Where there are safetensors, the other formats of the same weights are
left out; so are files that no engine reads. Of a repository of GGUF files one quantization is taken.
"""

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

NEVER = frozenset({".gitattributes", ".gitignore"})
SAFETENSORS = ".safetensors"
# Other forms of the same weights.
OTHER_WEIGHTS = frozenset({".bin", ".pt", ".pth", ".h5", ".msgpack", ".ot", ".onnx", ".onnx_data", ".tflite", ".ckpt"})
# Where authors keep the weights as they came from training.
ORIGINALS = "original"
GGUF = ".gguf"
# What is taken of several quantizations when none is named, in this order.
USUAL_VARIANTS = ("Q4_K_M", "Q8_0")
SHARD = re.compile(r"-\d{5}-of-\d{5}$")


class UnknownVariantError(ValueError):
    """The repository has no such form of the weights."""


def wanted(paths: Sequence[str], variant: str = "") -> list[str]:
    """Those of ``paths``, relative to the repository, that are fetched; in the same order.

    ``variant`` names one of several quantizations in GGUF. Raises UnknownVariantError.
    """
    pure = {path: PurePosixPath(path) for path in paths}
    quantized = [path for path in pure.values() if path.suffix == GGUF and not path.name.startswith("mmproj")]
    if variant or (quantized and not any(path.suffix == SAFETENSORS for path in pure.values())):
        chosen = _quantization(quantized, variant)
        return [text for text, path in pure.items() if path in chosen]
    doubled = any(path.suffix == SAFETENSORS and len(path.parts) == 1 for path in pure.values())

    def is_wanted(path: PurePosixPath) -> bool:
        if path.name in NEVER:
            return False
        return not (doubled and (path.suffix in OTHER_WEIGHTS or path.parts[0] == ORIGINALS))

    return [text for text, path in pure.items() if is_wanted(path)]


def _quantization(quantized: Sequence[PurePosixPath], variant: str) -> set[PurePosixPath]:
    """The shards of one quantization; without a name the usual one, or else the first."""
    for name in (variant,) if variant else USUAL_VARIANTS:
        named = re.compile(rf"(^|[-._/]){re.escape(name)}($|[-._/])", re.IGNORECASE)
        if found := {path for path in quantized if named.search(str(path.with_suffix("")))}:
            return found
    if variant:
        known = ", ".join(sorted({SHARD.sub("", path.stem) for path in quantized})) or "none"
        raise UnknownVariantError(f"it has no {variant}; files in GGUF: {known}")
    first = SHARD.sub("", min(quantized).stem)
    return {path for path in quantized if SHARD.sub("", path.stem) == first}
