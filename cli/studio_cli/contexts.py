"""Writing the configuration file: a context is a coordinator's address, its authority and the file with one's token."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from studio_runtime.errors import InvalidError
from studio_runtime.process import write_atomically

NAME = re.compile(r"[A-Za-z0-9_-]+")


def with_context(configuration: Mapping[str, Any], name: str, context: Mapping[str, str]) -> dict[str, Any]:
    """``configuration`` with this context in place of what was there under its name, and as the default one.

    Raises InvalidError where the name cannot be one.
    """
    if not NAME.fullmatch(name):
        raise InvalidError(f"{name!r} cannot name a context", "Use letters, digits, dashes and underscores.")
    kept = configuration.get("contexts", {})
    given = {key: value for key, value in context.items() if value}
    return {**configuration, "context": name, "contexts": {**(kept if isinstance(kept, Mapping) else {}), name: given}}


def as_toml(configuration: Mapping[str, Any]) -> str:
    """As the file has it: texts at the top, then a table for each context. Raises InvalidError for anything else in it."""
    lines = [f"{key} = {_text(value)}" for key, value in configuration.items() if key != "contexts"]
    for name, context in configuration.get("contexts", {}).items():
        lines += ["", f"[contexts.{name}]", *(f"{key} = {_text(value)}" for key, value in context.items())]
    return "\n".join(lines) + "\n"


def write_configuration(file: Path, configuration: Mapping[str, Any]) -> None:
    """Put ``configuration`` in force, readable to this user alone."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_atomically(file, as_toml(configuration).encode())


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise InvalidError(
            f"the configuration holds {value!r}, which is no text and would be lost", "Add the context by hand."
        )
    # A JSON text is a TOML text, but for this one character, and for characters beyond 16 bits in escapes, which are left alone.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
