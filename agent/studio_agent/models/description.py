"""What describes a model in a directory or a file of this host: configuration and headers, never a tensor."""

import json
import struct
from collections.abc import Sequence
from pathlib import Path

from studio.v1.agent_service_pb2 import ModelDescription

from studio_agent.models.errors import ModelDiskError
from studio_agent.models.gguf import parts, shortened_header
from studio_agent.models.source import GGUF

# A message of the contract may have 4 MiB; the rest is for the names of files and their sizes.
LARGEST_DESCRIPTION_BYTES = 3 * 1024 * 1024
LARGEST_FILE_BYTES = 256 * 1024
MOST_FILES = 5000
TEXTS = ("config.json", "generation_config.json", "quantize_config.json", "hf_quant_config.json", "chat_template.jinja")
INDEX = "model.safetensors.index.json"
LENGTH = struct.Struct("<Q")


def describe_model(folder: Path) -> ModelDescription:
    """The description of the model in ``folder``, or of the GGUF file of that name. Raises ModelDiskError. Blocks on the disk.

    Headers come all or not at all: where one is missing, or together they are too long to be sent, the sizes of the files
    are what is left.
    """
    try:
        found = parts(folder) if folder.is_file() else folder.iterdir()
        entries = sorted(entry for entry in found if entry.is_file())[:MOST_FILES]
        described = ModelDescription(sizes={entry.name: entry.stat().st_size for entry in entries})
        for name in TEXTS:
            if 0 < described.sizes.get(name, 0) <= LARGEST_FILE_BYTES:
                described.files[name] = (folder / name).read_bytes()
        headers = {path.name: _header(path) for path in _weight_files(folder, entries)}
        if not headers:
            headers = {path.name: shortened_header(path) for path in _gguf_files(entries)}
    except OSError as error:
        raise ModelDiskError(f"{folder} cannot be read: {error.strerror}", "Check who may read it.") from error
    whole = all(headers.values()) and sum(map(len, headers.values())) <= LARGEST_DESCRIPTION_BYTES
    if whole:
        described.tensor_headers.update(headers)
    return described


def _weight_files(folder: Path, entries: Sequence[Path]) -> list[Path]:
    """The files that the index names, else every one of the model's own; copies in other formats are left out."""
    index = folder / INDEX
    if index.is_file():
        try:
            names = json.loads(index.read_bytes()).get("weight_map", {}).values()
        except (ValueError, AttributeError):
            names = ()
        # A name that leads out of the folder is no file of this model.
        return [folder / name for name in sorted(set(names)) if isinstance(name, str) and Path(name).name == name]
    return [
        entry
        for entry in entries
        if entry.suffix == ".safetensors" and not entry.name.startswith(("adapter", "consolidated"))
    ]


def _gguf_files(entries: Sequence[Path]) -> list[Path]:
    """Of several copies of a model the one that an engine would be given: the first by name, with all of its parts."""
    found = [entry for entry in entries if entry.suffix == GGUF]
    return parts(found[0]) if found else []


def _header(path: Path) -> bytes:
    """The JSON at the start of a safetensors file; empty where there is none, or it is too long."""
    if not path.is_file():
        return b""
    with path.open("rb") as file:
        prefix = file.read(LENGTH.size)
        if len(prefix) < LENGTH.size:
            return b""
        (length,) = LENGTH.unpack(prefix)
        return file.read(length) if length <= LARGEST_DESCRIPTION_BYTES else b""
