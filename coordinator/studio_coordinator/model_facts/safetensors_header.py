"""The header of a safetensors file: 8 bytes of length, then JSON that names every tensor. The tensors are never read."""

import json
import struct
from pathlib import Path

from studio_coordinator.model_facts.errors import ModelUnreadableError
from studio_coordinator.plan.memory.tensors import StoredTensor

_LENGTH = struct.Struct("<Q")
# The format's own limit.
_LARGEST_HEADER = 100_000_000


def read_safetensors(path: Path) -> tuple[StoredTensor, ...]:
    """Tensors that the file at `path` lists."""
    with path.open("rb") as file:
        prefix = file.read(_LENGTH.size)
        if len(prefix) < _LENGTH.size:
            raise ModelUnreadableError(f"{path} is too short for a safetensors file", "Download it again.")
        (length,) = _LENGTH.unpack(prefix)
        if length > _LARGEST_HEADER:
            raise ModelUnreadableError(f"{path} does not begin with a safetensors header", "Download it again.")
        return parse_header(file.read(length), str(path))


def parse_header(text: bytes, name: str) -> tuple[StoredTensor, ...]:
    """Tensors that the JSON of a header lists; `name` of the file is for the refusal."""
    try:
        header = json.loads(text)
        return tuple(
            StoredTensor(
                name=tensor,
                element_type=str(entry["dtype"]),
                shape=tuple(int(size) for size in entry["shape"]),
                bytes=int(entry["data_offsets"][1]) - int(entry["data_offsets"][0]),
            )
            for tensor, entry in header.items()
            if tensor != "__metadata__"
        )
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise ModelUnreadableError(f"the safetensors header of {name} is damaged", "Download it again.") from error
