"""Where a node keeps its identity.

================ =============================================================================
identity.pem     private key, certificate, intermediates: one file, so that they always fit (0600)
authorities.pem  every authority that is trusted
coordinators     where to renew: HOST:PORT, one a line
next.key         the key of a renewal under way: on disk before it is asked for, so that an answer
                 that was lost can be asked for again
================ =============================================================================
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from studio.v1.identity_service_pb2 import Certificate

from studio_runtime.errors import StudioError
from studio_runtime.process import write_atomically
from studio_runtime.settings import Address
from studio_runtime.tls import ClientTls

if TYPE_CHECKING:
    from studio_runtime.identity.stored import StoredIdentity


class IdentityUnreadableError(StudioError):
    """The identity on disk is damaged."""

    reason = "identity_unreadable"


@dataclass(frozen=True)
class IdentityFolder:
    """A folder with the files of the table above, readable to their owner alone."""

    root: Path

    @property
    def exists(self) -> bool:
        """Whether this node has joined."""
        return self._identity.exists()

    def load(self) -> "StoredIdentity":
        """Read the identity. Raises IdentityUnreadableError."""
        # 15 MB, which only a node that has joined needs.
        from studio_runtime.identity.stored import StoredIdentity  # noqa: PLC0415 - see above

        try:
            return StoredIdentity.parse(self._identity.read_bytes(), self._authorities.read_bytes())
        except (OSError, ValueError, TypeError) as error:
            raise IdentityUnreadableError(
                f"the identity in {self.root} cannot be read: {error}",
                "Join again with a new token; engines are not touched.",
            ) from error

    def tls(self) -> ClientTls | None:
        """For a channel that is opened now; None where this node has not joined: it talks in clear text, on loopback."""
        return self.load().tls() if self.exists else None

    def coordinators(self) -> list[Address]:
        """Where to renew."""
        return [Address.parse(line) for line in self._coordinators.read_text(encoding="utf-8").split()]

    def keep_coordinators(self, addresses: Sequence[Address]) -> None:
        """Remember where to renew."""
        write_atomically(self._coordinators, "".join(f"{address}\n" for address in addresses).encode())

    def next_key(self) -> bytes:
        """The key (PEM) of the next certificate; made where there is none, and kept until its certificate is here."""
        from studio_runtime.identity.stored import new_key  # noqa: PLC0415 - as above

        if not self._next_key.exists():
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_atomically(self._next_key, new_key())
        return self._next_key.read_bytes()

    def take(self, certificate: Certificate) -> None:
        """Put the certificate of the next key in force."""
        key = self.next_key()
        # Trust first: with the new certificate and the old authorities no server might be believed.
        write_atomically(self._authorities, certificate.authorities)
        write_atomically(self._identity, key + certificate.chain)
        self._next_key.unlink()

    def drop_next_key(self) -> None:
        """Forget a key whose certificate nobody will give."""
        self._next_key.unlink(missing_ok=True)

    @property
    def _identity(self) -> Path:
        return self.root / "identity.pem"

    @property
    def _authorities(self) -> Path:
        return self.root / "authorities.pem"

    @property
    def _coordinators(self) -> Path:
        return self.root / "coordinators"

    @property
    def _next_key(self) -> Path:
        return self.root / "next.key"
