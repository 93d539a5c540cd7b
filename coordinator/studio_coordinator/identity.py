"""What a coordinator keeps on disk beside the database: who it is, the secret that keys are hashed with, and the master key."""

import hmac
import secrets
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from studio_runtime.errors import StudioError
from studio_runtime.process import write_atomically

from studio_coordinator.sealing import Sealer

PEPPER_BYTES = 32
FEWEST_PEPPER_BYTES = 16
PEPPER_CHECK = b"studio: check of the key pepper"


class PepperError(StudioError):
    """The secret that keys are hashed with is missing, or is not the one that this database's keys were made with."""

    reason = "key_pepper"


@dataclass(frozen=True)
class Identity:
    """Kept for the life of the installation."""

    # Holder of the lease: after a restart it is renewed, not waited for. The folder's lock makes it unique.
    coordinator_id: str
    # Without this the hashes of API keys in a stolen database cannot even be tried.
    pepper: bytes
    # Without this the secrets in a stolen database cannot be read.
    sealer: Sealer

    @classmethod
    def load(cls, state_dir: Path, pepper_file: Path | None = None, master_key_file: Path | None = None) -> "Identity":
        """Read the identity in ``state_dir``; make it (mode 0600) at the first start.

        ``pepper_file`` and ``master_key_file`` hold these instead, and must be there: coordinators on one database share
        their bytes.
        """
        name, pepper = state_dir / "coordinator-id", pepper_file or state_dir / "key-pepper"
        if not name.exists():
            write_atomically(name, uuid4().hex.encode())
        if pepper_file is None and not pepper.exists():
            write_atomically(pepper, secrets.token_bytes(PEPPER_BYTES))
        return cls(name.read_text(encoding="ascii"), _read_pepper(pepper), Sealer.load(state_dir, master_key_file))

    @property
    def pepper_check(self) -> bytes:
        """Tells peppers apart and says nothing about them: it may be stored beside the hashes."""
        return hmac.digest(self.pepper, PEPPER_CHECK, "sha256")


def _read_pepper(file: Path) -> bytes:
    try:
        pepper = file.read_bytes()
    except OSError as error:
        raise PepperError(
            f"the key pepper {file} cannot be read: {error.strerror}",
            "Copy the file key-pepper from the first coordinator's state folder, readable to this user alone.",
        ) from error
    if len(pepper) < FEWEST_PEPPER_BYTES:
        raise PepperError(
            f"the key pepper {file} has {len(pepper)} bytes, fewer than {FEWEST_PEPPER_BYTES}", "Is it whole?"
        )
    return pepper
