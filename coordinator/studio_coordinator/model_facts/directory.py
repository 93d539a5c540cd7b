"""A model in a local directory."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from studio_coordinator.model_facts.errors import ModelUnreadableError
from studio_coordinator.model_facts.gguf_header import read_gguf
from studio_coordinator.model_facts.safetensors_header import read_safetensors
from studio_coordinator.plan.memory.facts import ModelFacts
from studio_coordinator.plan.memory.model import model_facts
from studio_coordinator.plan.memory.quantization import with_quantization_file
from studio_coordinator.plan.memory.tensors import StoredTensor

QUANTIZATION_FILE = "hf_quant_config.json"
_INDEX = "model.safetensors.index.json"


def read_directory(directory: Path, weight_bytes: int = 0) -> ModelFacts:
    """Facts of the model in `directory`.

    Tensors come from its safetensors files, else the total from their index, else `weight_bytes` (0: not known), else the weights
    are counted from config.json. A `.gguf` file may be named in place of a directory. Blocks: call it in a thread.
    """
    if directory.suffix == ".gguf":
        config, tensors = read_gguf(directory)
        return model_facts(config, tensors)
    if not directory.is_dir():
        raise ModelUnreadableError(f"there is no directory {directory}", "Name the directory that holds config.json.")
    config = _config(directory)
    if weight_bytes:
        return model_facts(config, weight_bytes=weight_bytes)
    files = _weight_files(directory)
    if files:
        return model_facts(config, [tensor for file in files for tensor in read_safetensors(file)])
    ggufs = sorted(directory.glob("*.gguf"))
    if ggufs:
        return _from_gguf(config, ggufs)
    index = directory / _INDEX
    if index.is_file():
        weight_bytes = int(_json(index).get("metadata", {}).get("total_size", 0))
    if not config and not weight_bytes:
        raise ModelUnreadableError(
            f"{directory} holds neither config.json nor weights", "Name the directory of the model, or --weights-bytes."
        )
    return model_facts(config, weight_bytes=weight_bytes)


def _weight_files(directory: Path) -> Sequence[Path]:
    """The files that the index names, when all are there; else every model file. Other formats' copies are left out."""
    index = directory / _INDEX
    if index.is_file():
        named = sorted({directory / name for name in _json(index).get("weight_map", {}).values()})
        return named if named and all(file.is_file() for file in named) else ()
    return sorted(
        file for file in directory.glob("*.safetensors") if not file.name.startswith(("adapter", "consolidated"))
    )


def _from_gguf(config: dict[str, Any], files: Sequence[Path]) -> ModelFacts:
    stated: dict[str, Any] = {}
    tensors: list[StoredTensor] = []
    for file in files:
        metadata, listed = read_gguf(file)
        stated = metadata | stated
        tensors.extend(listed)
    return model_facts(config or stated, tensors)


def _config(directory: Path) -> dict[str, Any]:
    path, quantization = directory / "config.json", directory / QUANTIZATION_FILE
    config = _json(path) if path.is_file() else {}
    return with_quantization_file(config, _json(quantization)) if quantization.is_file() else config


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise ModelUnreadableError(f"{path} is not JSON", "Download it again.") from error
    if not isinstance(content, dict):
        raise ModelUnreadableError(f"{path} is not a JSON object", "Download it again.")
    return content
