"""A model as an agent describes it: the same files and headers that `directory` reads, sent instead of read."""

import io
import json
from pathlib import PurePosixPath
from typing import Any

from studio.v1.agent_service_pb2 import ModelDescription

from studio_coordinator.model_facts.directory import QUANTIZATION_FILE
from studio_coordinator.model_facts.errors import ModelUnreadableError
from studio_coordinator.model_facts.gguf_header import parse_gguf
from studio_coordinator.model_facts.safetensors_header import parse_header
from studio_coordinator.plan.memory.facts import ModelFacts
from studio_coordinator.plan.memory.model import model_facts
from studio_coordinator.plan.memory.quantization import with_quantization_file
from studio_coordinator.plan.memory.tensors import StoredTensor

WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf")


def read_description(description: ModelDescription) -> ModelFacts:
    """Facts of the model; from the sizes of its files where their headers were too much to send."""
    config = _config(description)
    tensors: list[StoredTensor] = []
    for name, header in sorted(description.tensor_headers.items()):
        if PurePosixPath(name).suffix == ".gguf":
            stated, listed = parse_gguf(io.BytesIO(header), name)
            config = config or stated
            tensors += listed
        else:
            tensors += parse_header(header, name)
    if not tensors and not config:
        raise ModelUnreadableError("there is neither a config.json nor a header of weights")
    return model_facts(config, tensors, 0 if tensors else _weight_bytes(description))


def _config(description: ModelDescription) -> dict[str, Any]:
    config = _json(description, "config.json")
    return with_quantization_file(config, _json(description, QUANTIZATION_FILE))


def _json(description: ModelDescription, name: str) -> dict[str, Any]:
    """A file as an object; empty where it was not sent."""
    try:
        content = json.loads(description.files.get(name, b"{}"))
    except ValueError as error:
        raise ModelUnreadableError(f"its {name} is not JSON", "Download it again.") from error
    if not isinstance(content, dict):
        raise ModelUnreadableError(f"its {name} is not a JSON object", "Download it again.")
    return content


def _weight_bytes(description: ModelDescription) -> int:
    """Sizes of the files of the first format that is there."""
    for suffix in WEIGHTS:
        sizes = [size for name, size in description.sizes.items() if PurePosixPath(name).suffix == suffix]
        if sizes:
            return sum(sizes)
    return 0
