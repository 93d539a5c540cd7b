"""What a coordinator keeps on disk beside the database: who it is, and the secret that keys are hashed with."""

import secrets
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from studio_runtime.process import write_atomically

PEPPER_BYTES = 32


@dataclass(frozen=True)
class Identity:
    """Kept for the life of the installation."""

    # Holder of the lease: after a restart it is renewed, not waited for. The folder's lock makes it unique.
    coordinator_id: str
    # Without this the hashes of API keys in a stolen database cannot even be tried.
    pepper: bytes

    @classmethod
    def load(cls, state_dir: Path) -> "Identity":
        """Read the identity in ``state_dir``; make it (mode 0600) at the first start."""
        name, pepper = state_dir / "coordinator-id", state_dir / "key-pepper"
        if not name.exists():
            write_atomically(name, uuid4().hex.encode())
        if not pepper.exists():
            write_atomically(pepper, secrets.token_bytes(PEPPER_BYTES))
        return cls(name.read_text(encoding="ascii"), pepper.read_bytes())
