"""A LoRA adapter in a local directory: its rank and its bytes."""

import json
from dataclasses import dataclass
from pathlib import Path

from studio_coordinator.model_facts.errors import ModelUnreadableError
from studio_coordinator.model_facts.safetensors_header import read_safetensors


@dataclass(frozen=True)
class AdapterFacts:
    """`bytes` as stored; what an engine reserves follows from the largest rank of all (`plan.memory.adapters`)."""

    rank: int
    bytes: int
    base_model: str


def read_adapter(directory: Path) -> AdapterFacts:
    """Facts of the adapter in `directory`. Blocks: call it in a thread."""
    try:
        config = json.loads((directory / "adapter_config.json").read_bytes())
        rank, base = int(config["r"]), str(config.get("base_model_name_or_path") or "")
        tensors = read_safetensors(directory / "adapter_model.safetensors")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelUnreadableError(
            f"{directory} is not a LoRA adapter", "It needs adapter_config.json and adapter_model.safetensors."
        ) from error
    return AdapterFacts(rank, sum(tensor.bytes for tensor in tensors), base)
