"""Which files of a repository engines want. Pure.

Many repositories hold the same weights several times. Where there are safetensors, the other formats of the same weights are
left out; so are files that no engine reads.
"""

from collections.abc import Sequence
from pathlib import PurePosixPath

NEVER = frozenset({".gitattributes", ".gitignore"})
SAFETENSORS = ".safetensors"
# Other forms of the same weights.
OTHER_WEIGHTS = frozenset({".bin", ".pt", ".pth", ".h5", ".msgpack", ".ot", ".onnx", ".onnx_data", ".tflite", ".ckpt"})
# Where authors keep the weights as they came from training.
ORIGINALS = "original"


def wanted(paths: Sequence[str]) -> list[str]:
    """Those of ``paths``, relative to the repository, that are fetched; in the same order."""
    pure = {path: PurePosixPath(path) for path in paths}
    doubled = any(path.suffix == SAFETENSORS and len(path.parts) == 1 for path in pure.values())

    def is_wanted(path: PurePosixPath) -> bool:
        if path.name in NEVER:
            return False
        return not (doubled and (path.suffix in OTHER_WEIGHTS or path.parts[0] == ORIGINALS))

    return [text for text, path in pure.items() if is_wanted(path)]
