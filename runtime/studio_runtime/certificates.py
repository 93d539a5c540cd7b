"""X.509 certificates, and what names their keys."""

import hashlib

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


def certificates(pem: bytes) -> list[x509.Certificate]:
    """All certificates of ``pem``, in their order. Raises ValueError where there is none or one is damaged."""
    return x509.load_pem_x509_certificates(pem)


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of the certificate's public key, in hexadecimal: it stays when the same key is certified anew."""
    return key_fingerprint(certificate.public_key())


def key_fingerprint(key: CertificatePublicKeyTypes) -> str:
    """SHA-256 of a public key (SubjectPublicKeyInfo, DER), in hexadecimal."""
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def signed_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    """Whether ``authority`` signed ``certificate``."""
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
