"""That the caller of a renewal has the key of the certificate it shows: a signature over the request for the next one.

The connection cannot say it: a certificate that has run out is refused by every TLS handshake, and a host that was away for a
week is to come back by itself. A proof that somebody repeats gets a certificate for a key which only the first caller has.
"""

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.hashes import SHA256

LABEL = b"studio.v1 renewal\0"


def make_proof(key: EllipticCurvePrivateKey, csr: bytes) -> bytes:
    """Sign the request ``csr`` (DER) with the key of the certificate in use."""
    return key.sign(LABEL + csr, ECDSA(SHA256()))


def proves(public_key: CertificatePublicKeyTypes, csr: bytes, proof: bytes) -> bool:
    """Whether ``proof`` over ``csr`` was made with the key that belongs to ``public_key``."""
    if not isinstance(public_key, EllipticCurvePublicKey):
        return False
    try:
        public_key.verify(proof, LABEL + csr, ECDSA(SHA256()))
    except InvalidSignature:
        return False
    return True
