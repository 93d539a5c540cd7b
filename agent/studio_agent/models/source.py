"""What a recipe may name as its model."""

import re
from pathlib import Path

from studio_agent.models.errors import ModelMissingError

LOCAL, HUB = "path://", "hf://"
# Owner and name as the hub allows them, and which form of the weights; all become part of a folder's name.
WORD = r"[A-Za-z0-9][A-Za-z0-9._-]*"
REPOSITORY = re.compile(rf"{WORD}/{WORD}(:{WORD})?")
# A model that is one file.
GGUF = ".gguf"
# What makes a directory a LoRA adapter.
ADAPTER_FILE = "adapter_config.json"


def local_directory(source: str) -> Path | None:
    """The directory of a ``path://`` source; None of any other."""
    return Path(source.removeprefix(LOCAL)) if source.startswith(LOCAL) else None


def repository_of(source: str) -> str:
    """``OWNER/NAME`` of a hub source, or ``OWNER/NAME:VARIANT``. Raises ModelMissingError for what is no source at all."""
    if not source.startswith(HUB):
        raise ModelMissingError(
            f"{source!r} is no model source", "Write hf://OWNER/NAME, or path:// and an absolute directory."
        )
    name = source.removeprefix(HUB)
    if not REPOSITORY.fullmatch(name) or ".." in name or "--" in name:
        raise ModelMissingError(
            f"{source} names no model", "Write hf://OWNER/NAME, for GGUF hf://OWNER/NAME:QUANTIZATION."
        )
    return name


def check_adapter(folder: Path) -> None:
    """Raises ModelMissingError where ``folder`` holds no LoRA adapter."""
    if not folder.is_absolute():
        raise ModelMissingError(f"{folder} is not absolute", "Write path:// and an absolute directory on the host.")
    if not (folder / ADAPTER_FILE).is_file():
        raise ModelMissingError(
            f"{folder} on this host holds no {ADAPTER_FILE}, so it is no LoRA adapter",
            f"Name the directory that holds {ADAPTER_FILE} and the adapter's weights.",
        )


def check_local(folder: Path) -> None:
    """Raises ModelMissingError where ``folder`` holds no model. One GGUF file is a whole model."""
    if not folder.is_absolute():
        raise ModelMissingError(f"{folder} is not absolute", "Write path:// and an absolute directory on the host.")
    if folder.suffix == GGUF and folder.is_file():
        return
    if not folder.is_dir():
        raise ModelMissingError(
            f"there is no directory {folder} on this host", "Copy the model there, or name another place."
        )
    if not (folder / "config.json").is_file():
        raise ModelMissingError(
            f"{folder} holds no config.json, so it is no model",
            "Name the directory that holds config.json and the weights.",
        )
