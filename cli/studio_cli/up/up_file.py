"""``up.json``: what the running system tells others, for as long as it runs. It holds the API key, so it is its owner's only."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studio_runtime.process import write_atomically

ROLES = ("postgres", "coordinator", "agent", "gateway")


@dataclass(frozen=True)
class Outcome:
    """What came of the start: the key, the models that serve, and what is wrong with others; empty where nothing is."""

    api_key: str
    models: Sequence[str] = ()
    problem: str = ""


def content(
    outcome: Outcome,
    *,
    gateway: str,
    coordinator: str,
    pids: Mapping[str, int],
    metrics: Mapping[str, str],
    supervisor: int,
) -> dict[str, Any]:
    """The document. ``pids`` has every role, null where this system does not run it; ``problem`` is null when all is well."""
    return {
        "gateway_url": f"http://{gateway}",
        "api_key": outcome.api_key,
        "coordinator": coordinator,
        "pids": {role: pids.get(role) for role in ROLES},
        "pid": supervisor,
        "metrics": dict(metrics),
        "models": list(outcome.models),
        "problem": outcome.problem or None,
    }


def write(file: Path, document: Mapping[str, Any]) -> None:
    """Put ``document`` in force."""
    write_atomically(file, json.dumps(document, indent=2).encode() + b"\n", mode=0o600)


def read(file: Path) -> dict[str, Any] | None:
    """What is in force; None where there is nothing, or nothing readable."""
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) else None
