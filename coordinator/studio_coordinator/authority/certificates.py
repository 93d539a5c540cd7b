"""Makes certificates: ECDSA on P-256 with SHA-256; the time is given, nothing is stored."""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes, CertificatePublicKeyTypes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from studio_runtime.certificates import fingerprint
from studio_runtime.errors import InvalidError
from studio_runtime.identity.names import NodeName, kind_word

# Clocks of a fleet differ by less.
CLOCK_SKEW = timedelta(minutes=5)
# Of a certificate's life, so that one for a short time is not as good as over when it is made.
MOST_SKEW_SHARE = 0.05
AUTHORITY_LIFETIME = timedelta(days=3650)
MOST_CSR_BYTES = 4096

ORGANIZATION = "vLLM Studio"


@dataclass(frozen=True)
class Signer:
    """An authority that can sign: its certificate, those above it, and its key."""

    certificate: x509.Certificate
    above: tuple[x509.Certificate, ...]
    key: CertificateIssuerPrivateKeyTypes = field(repr=False)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of its public key."""
        return fingerprint(self.certificate)

    @property
    def pem(self) -> bytes:
        """Its own certificate, then those above it."""
        return b"".join(one.public_bytes(Encoding.PEM) for one in (self.certificate, *self.above))


@dataclass(frozen=True)
class Issued:
    """A certificate of a node, and what is remembered of it."""

    # PEM: the leaf, the authority, those above it.
    chain: bytes
    not_after: datetime
    key_fingerprint: str


def make_authority(now: datetime) -> Signer:
    """A root of our own."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANIZATION),
            x509.NameAttribute(NameOID.COMMON_NAME, f"fleet authority of {now:%Y-%m-%d %H:%M:%S}"),
        ]
    )
    builder = (
        _builder(name, name, key.public_key(), now, now + AUTHORITY_LIFETIME)
        # Another authority may sign below a given one; none below ours.
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return Signer(builder.sign(key, SHA256()), (), key)


def node_certificate(
    signer: Signer, name: NodeName, public_key: CertificatePublicKeyTypes, now: datetime, lifetime: timedelta
) -> Issued:
    """The certificate of a node: its name as the only URI, and good for clients alone, so that it can stand for no server."""
    until = min(now + lifetime, signer.certificate.not_valid_after_utc)
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, kind_word(name.kind)),
            x509.NameAttribute(NameOID.COMMON_NAME, name.id[:64]),
        ]
    )
    builder = _leaf(signer, subject, public_key, _since(now, lifetime), until)
    builder = builder.add_extension(
        x509.SubjectAlternativeName([x509.UniformResourceIdentifier(name.uri)]), critical=False
    ).add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
    leaf = builder.sign(signer.key, SHA256())
    return Issued(leaf.public_bytes(Encoding.PEM) + signer.pem, until, fingerprint(leaf))


def server_certificate(
    signer: Signer, hosts: Iterable[str], public_key: CertificatePublicKeyTypes, now: datetime, lifetime: timedelta
) -> bytes:
    """The chain (PEM) of a coordinator that is dialled as any of ``hosts``: names or IP addresses.

    The authority itself is part of it: a node that knows only its fingerprint finds it there.
    """
    names = sorted(set(hosts))
    subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "coordinator")])
    until = min(now + lifetime, signer.certificate.not_valid_after_utc)
    builder = _leaf(signer, subject, public_key, _since(now, lifetime), until)
    builder = builder.add_extension(
        x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False
    ).add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    return builder.sign(signer.key, SHA256()).public_bytes(Encoding.PEM) + signer.pem


def requested_key(csr: bytes) -> ec.EllipticCurvePublicKey:
    """The public key that a request (PKCS#10, DER) asks a certificate for; nothing else of it is read. Raises InvalidError."""
    refused = InvalidError("the request for a certificate is not one: PKCS#10 in DER, with an ECDSA key on P-256")
    if not 0 < len(csr) <= MOST_CSR_BYTES:
        raise refused
    try:
        request = x509.load_der_x509_csr(csr)
        public_key, is_signed = request.public_key(), request.is_signature_valid
    except (ValueError, TypeError, InvalidSignature):
        raise refused from None
    if not is_signed or not isinstance(public_key, ec.EllipticCurvePublicKey) or public_key.curve.name != "secp256r1":
        raise refused
    return public_key


def _since(now: datetime, lifetime: timedelta) -> datetime:
    """From when on a certificate counts: a little before it is made, for clocks that are behind."""
    return now - min(CLOCK_SKEW, lifetime * MOST_SKEW_SHARE)


def _leaf(
    signer: Signer, subject: x509.Name, public_key: CertificatePublicKeyTypes, since: datetime, until: datetime
) -> x509.CertificateBuilder:
    return (
        _builder(subject, signer.certificate.subject, public_key, since, until)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(_key_identifier(signer.certificate)),
            critical=False,
        )
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: CertificatePublicKeyTypes, since: datetime, until: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(since)
        .not_valid_after(until)
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _key_identifier(authority: x509.Certificate) -> x509.SubjectKeyIdentifier:
    try:
        return authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        return x509.SubjectKeyIdentifier.from_public_key(authority.public_key())


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
