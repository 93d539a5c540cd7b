"""A node's identity in memory: its name, its key, its certificate, and whom it trusts."""

from dataclasses import dataclass, field
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from studio_runtime.certificates import certificates, fingerprint, signed_by
from studio_runtime.identity.names import NodeName
from studio_runtime.tls import ClientTls


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
        return next((fingerprint(one) for one in certificates(self.authorities) if signed_by(self.chain[0], one)), "")

    def tls(self) -> ClientTls:
        """For channels that prove this identity."""
        chain = b"".join(one.public_bytes(Encoding.PEM) for one in self.chain)
        return ClientTls(self.authorities, chain, key_pem(self.key))

    @classmethod
    def parse(cls, pem: bytes, authorities: bytes) -> "StoredIdentity":
        """From key and chain in one PEM, and the authorities in another. Raises ValueError."""
        key, chain = parse_key(pem), certificates(pem)
        certificates(authorities)
        name = node_name(chain[0])
        if name is None:
            raise ValueError("it is a certificate of something else than a node")
        return cls(name, key, tuple(chain), authorities)


def new_key() -> bytes:
    """A private key as PEM, in the clear: for a file of mode 0600."""
    return key_pem(ec.generate_private_key(ec.SECP256R1()))


def parse_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    """The private key in ``pem``. Raises ValueError."""
    key = load_pem_private_key(pem, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError("it is a key of another kind")
    return key


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A private key as PEM, in the clear: for a file of mode 0600."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def node_name(certificate: x509.Certificate) -> NodeName | None:
    """The holder of ``certificate``; None where it is no node's."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return None
    found = [NodeName.parse(uri) for uri in names.get_values_for_type(x509.UniformResourceIdentifier)]
    return found[0] if len(found) == 1 else None
