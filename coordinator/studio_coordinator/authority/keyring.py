"""The authorities of one moment: who is trusted, who signs."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
    load_pem_private_key,
)
from studio.v1.access_service_pb2 import Authority
from studio.v1.identity_service_pb2 import AuthoritiesInForce
from studio_runtime.certificates import certificates, fingerprint, signed_by
from studio_runtime.errors import InvalidError, StudioError

from studio_coordinator.authority.certificates import Signer
from studio_coordinator.sealing import Sealer
from studio_coordinator.store.authorities import AuthorityRow


class NoSigningAuthorityError(StudioError):
    """No authority signs."""

    reason = "no_signing_authority"


@dataclass(frozen=True)
class KnownAuthority:
    """An authority of the fleet, in its phase."""

    signer: Signer
    phase: Authority.Phase.ValueType
    given: bool
    created_at: datetime

    @property
    def fingerprint(self) -> str:
        """SHA-256 of its public key."""
        return self.signer.fingerprint


@dataclass(frozen=True)
class Keyring:
    """All authorities that are trusted; one of them signs."""

    authorities: tuple[KnownAuthority, ...] = field(default=())

    @classmethod
    def open(cls, rows: Sequence[AuthorityRow], sealer: Sealer) -> "Keyring":
        """From the database. Raises SealingError."""
        return cls(tuple(_known(row, sealer) for row in rows))

    @property
    def signing(self) -> Signer:
        """The one that signs. Raises NoSigningAuthorityError."""
        found = next((one.signer for one in self.authorities if one.phase == Authority.PHASE_SIGNING), None)
        if found is None:
            raise NoSigningAuthorityError("no authority signs certificates", "`studio authority rotate` goes on.")
        return found

    @property
    def bundle(self) -> bytes:
        """PEM of all that are trusted."""
        return b"".join(one.signer.pem for one in self.authorities)

    @property
    def trusted(self) -> frozenset[str]:
        """Fingerprints of every certificate in ``bundle``."""
        return frozenset(fingerprint(one) for one in certificates(self.bundle)) if self.authorities else frozenset()

    def in_force(self) -> AuthoritiesInForce:
        """What nodes are told."""
        return AuthoritiesInForce(trusted=sorted(self.trusted), signing=self.signing.fingerprint)

    def signer_of(self, certificate: x509.Certificate) -> Signer | None:
        """The authority that signed ``certificate``; None where it is none of ours."""
        return next((one.signer for one in self.authorities if signed_by(certificate, one.signer.certificate)), None)


def read_signer(certificate_file: Path, key_file: Path) -> Signer:
    """An authority of somebody else's, that may sign for the fleet: ``--ca-cert`` and ``--ca-key``. Raises InvalidError."""
    try:
        chain = certificates(certificate_file.read_bytes())
        key = load_pem_private_key(key_file.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise InvalidError(f"the authority in {certificate_file} and {key_file} cannot be read: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise InvalidError(f"the key in {key_file} is of a kind that TLS does not sign with", "ECDSA or RSA.")
    signer = Signer(chain[0], tuple(chain[1:]), key)
    if key.public_key() != signer.certificate.public_key():
        raise InvalidError(f"{key_file} is not the key of the first certificate in {certificate_file}")
    try:
        basic = signer.certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        basic = x509.BasicConstraints(ca=False, path_length=None)
    if not basic.ca:
        raise InvalidError(f"the first certificate in {certificate_file} may not sign others", "It has to be a CA.")
    return signer


def row_of(
    signer: Signer, phase: Authority.Phase.ValueType, sealer: Sealer, now: datetime, *, given: bool
) -> AuthorityRow:
    """An authority as it is stored, its key sealed."""
    key = signer.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return AuthorityRow(
        fingerprint=signer.fingerprint,
        phase=phase,
        certificate=signer.pem,
        sealed_key=sealer.seal(key, context_of(signer.fingerprint)),
        given=given,
        created_at=now,
        expires_at=signer.certificate.not_valid_after_utc,
    )


def _known(row: AuthorityRow, sealer: Sealer) -> KnownAuthority:
    own, *above = certificates(row.certificate)
    pkcs8 = sealer.open(row.sealed_key, context_of(row.fingerprint))
    key = load_der_private_key(pkcs8, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise InvalidError(f"authority {row.fingerprint} has a key of an unknown kind")
    return KnownAuthority(Signer(own, tuple(above), key), row.phase, row.given, row.created_at)


def context_of(fingerprint_of_it: str) -> str:
    """What an authority's key is sealed for."""
    return f"authority/{fingerprint_of_it}"
