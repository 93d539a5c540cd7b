"""What tests of the CLI type, and what comes back."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Said:
    """What a command left behind."""

    code: int
    out: str
    err: str


# Words of a command line to what it said.
Studio = Callable[..., Said]
