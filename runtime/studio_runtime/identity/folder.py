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
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from studio.v1.identity_service_pb2 import Certificate

from studio_runtime.errors import StudioError
from studio_runtime.identity.names import NodeName, node_name
from studio_runtime.process import write_atomically
from studio_runtime.settings import Address
from studio_runtime.tls import ClientTls, certificates, fingerprint


class IdentityUnreadableError(StudioError):
    """The identity on disk is damaged."""

    reason = "identity_unreadable"


@dataclass(frozen=True)
class StoredIdentity:
    """A node's identity as it lies on disk."""

    name: NodeName
    key: ec.EllipticCurvePrivateKey = field(repr=False)
    chain: tuple[x509.Certificate, ...]
    # PEM.
    authorities: bytes

    @property
    def not_before(self) -> datetime:
        """From when on the certificate counts."""
        return self.chain[0].not_valid_before_utc

    @property
    def not_after(self) -> datetime:
        """Until when it counts."""
        return self.chain[0].not_valid_after_utc

    @property
    def trusted(self) -> frozenset[str]:
        """Fingerprints of the trusted authorities."""
        return frozenset(fingerprint(authority) for authority in certificates(self.authorities))

    @property
    def signed_by(self) -> str:
        """Fingerprint of the trusted authority that signed the certificate; empty where it is trusted no more."""
        return next((fingerprint(one) for one in certificates(self.authorities) if _signed(self.chain[0], one)), "")

    def tls(self) -> ClientTls:
        """For channels that prove this identity."""
        chain = b"".join(one.public_bytes(Encoding.PEM) for one in self.chain)
        return ClientTls(self.authorities, chain, key_pem(self.key))


@dataclass(frozen=True)
class IdentityFolder:
    """A folder with the files of the table above, readable to their owner alone."""

    root: Path

    @property
    def exists(self) -> bool:
        """Whether this node has joined."""
        return self._identity.exists()

    def load(self) -> StoredIdentity:
        """Read the identity. Raises IdentityUnreadableError."""
        try:
            pem = self._identity.read_bytes()
            key = load_pem_private_key(pem, None)
            chain = certificates(pem)
            name = node_name(chain[0])
            authorities = self._authorities.read_bytes()
            certificates(authorities)
        except (OSError, ValueError) as error:
            raise self._unreadable(str(error)) from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or name is None:
            raise self._unreadable("it holds another kind of key, or a certificate of something else")
        return StoredIdentity(name, key, tuple(chain), authorities)

    def tls(self) -> ClientTls | None:
        """For a channel that is opened now; None where this node has not joined: it talks in clear text, on loopback."""
        return self.load().tls() if self.exists else None

    def coordinators(self) -> list[Address]:
        """Where to renew."""
        return [Address.parse(line) for line in self._coordinators.read_text(encoding="utf-8").split()]

    def keep_coordinators(self, addresses: Sequence[Address]) -> None:
        """Remember where to renew."""
        write_atomically(self._coordinators, "".join(f"{address}\n" for address in addresses).encode())

    def next_key(self) -> ec.EllipticCurvePrivateKey:
        """The key of the next certificate; made where there is none, and kept until its certificate is here."""
        if not self._next_key.exists():
            write_atomically(self._next_key, key_pem(ec.generate_private_key(ec.SECP256R1())))
        key = load_pem_private_key(self._next_key.read_bytes(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise self._unreadable("next.key is another kind of key")
        return key

    def take(self, certificate: Certificate) -> None:
        """Put the certificate of the next key in force."""
        pem = key_pem(self.next_key())
        # Trust first: with the new certificate and the old authorities no server might be believed.
        write_atomically(self._authorities, certificate.authorities)
        write_atomically(self._identity, pem + certificate.chain)
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

    def _unreadable(self, why: str) -> IdentityUnreadableError:
        return IdentityUnreadableError(
            f"the identity in {self.root} cannot be read: {why}",
            "Join again with a new token; engines are not touched.",
        )


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A private key as PEM, in the clear: for a file of mode 0600."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _signed(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
