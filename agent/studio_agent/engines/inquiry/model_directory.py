"""Reads the facts of a model out of its directory."""

import json
from pathlib import Path
from typing import Any

from studio_agent.engines.model_facts import ModelFacts, facts_of

LARGEST_FILE_BYTES = 32 * 1024 * 1024


def facts_at(model_path: str) -> ModelFacts | None:
    """The facts of the model in the directory ``model_path``; None for a hub id, a single file, or a damaged directory.

    Blocks on the disk.
    """
    folder = Path(model_path)
    if not folder.is_absolute():
        return None
    config = _json(folder / "config.json")
    if config is None:
        return None
    return facts_of(config, _chat_template(folder), [entry.name for entry in folder.iterdir()])


def _chat_template(folder: Path) -> str:
    """Engines look in this order: a file of its own, then the tokenizer's configuration."""
    own = _text(folder / "chat_template.jinja")
    if own is not None:
        return own
    for name in ("chat_template.json", "tokenizer_config.json"):
        found = (_json(folder / name) or {}).get("chat_template")
        if isinstance(found, str):
            return found
        if isinstance(found, list):
            named = {each.get("name"): each.get("template") for each in found if isinstance(each, dict)}
            chosen = named.get("tool_use") or named.get("default")
            if isinstance(chosen, str):
                return chosen
    return ""


def _json(path: Path) -> dict[str, Any] | None:
    text = _text(path)
    try:
        found = None if text is None else json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _text(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return file.read(LARGEST_FILE_BYTES).decode("utf-8", "replace")
    except OSError:
        return None
