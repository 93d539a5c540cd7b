"""The local token: a file that only the coordinator's own user can read.

Whoever reads it could as well read the database's URL and the master key beside it, so it may do anything, as an agent and as
a gateway too. It is how ``studio up`` keeps other users of the machine out: its listener is on loopback, which is everybody's.
"""

import hmac
from dataclasses import dataclass, field
from pathlib import Path

from studio_runtime.process import write_atomically

from studio_coordinator.tokens import Token

FILE = "local-token"
PREFIX = "vsl"


@dataclass(frozen=True)
class LocalToken:
    """The token in one state folder."""

    text: str = field(repr=False)

    @classmethod
    def load(cls, state_dir: Path) -> "LocalToken":
        """Read ``local-token`` in ``state_dir``; make it (mode 0600) at the first start, or where it is damaged."""
        file = state_dir / FILE
        text = file.read_text(encoding="utf-8").strip() if file.exists() else ""
        if Token.read(text, PREFIX) is None:
            text = Token.new(PREFIX).text
            write_atomically(file, text.encode())
        return cls(text)

    def is_it(self, text: str) -> bool:
        """Whether ``text`` is the token, in constant time."""
        return hmac.compare_digest(self.text.encode(), text.encode())
