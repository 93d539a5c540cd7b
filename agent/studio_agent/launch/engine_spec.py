"""What an engine unit is to run: written by the agent, read by the engine's user. Small, for it is read before every engine.

One file for each start, under a folder that both users share and nobody else enters. It holds what must not stand in an argument
list: the environment, which may carry keys.
"""

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

# Made by systemd-tmpfiles; owned by the agent, with the engines' group on everything in it.
SPECS = Path("/run/studio-engines")
# What systemd lets stand after the "@" of a unit's name, less the backslash and the dash at the front.
INSTANCE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,199}")


@dataclass(frozen=True)
class EngineSpec:
    """One start of one engine."""

    argv: list[str]
    # The whole environment; nothing is inherited.
    env: dict[str, str]
    # Appended to; it exists and the engine's user may write it.
    log_path: str
    # Where the engine runs; "" leaves it where the unit put it.
    cwd: str = ""

    @classmethod
    def read(cls, path: Path) -> "EngineSpec":
        """Raises OSError, or ValueError for a file that is no spec."""
        fields = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(fields, dict) or not fields.get("argv"):
            raise ValueError(f"{path} is no engine spec")
        try:
            return cls(**fields)
        except TypeError as error:
            raise ValueError(f"{path} is no engine spec: {error}") from error

    def encode(self) -> bytes:
        """As ``read`` reads it."""
        return json.dumps(asdict(self)).encode()


def spec_path(instance: str, folder: Path = SPECS) -> Path:
    """Where the spec of a unit instance is. Raises ValueError for what is no instance name, so that none leads elsewhere."""
    if not INSTANCE.fullmatch(instance):
        raise ValueError(f"{instance!r} cannot be the instance of a unit")
    return folder / f"{instance}.json"
