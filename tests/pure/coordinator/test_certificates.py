"""What certificates say, and what of a request is read."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st
from studio.v1.identity_service_pb2 import Identity
from studio_coordinator.authority.certificates import (
    make_authority,
    node_certificate,
    requested_key,
    server_certificate,
)
from studio_coordinator.settings import parser
from studio_coordinator.tls_flags import is_loopback, tls_flags
from studio_runtime.certificates import certificates, signed_by
from studio_runtime.errors import InvalidError, SafetyError
from studio_runtime.identity.names import NodeName
from studio_runtime.identity.stored import node_name

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
KEY = ec.generate_private_key(ec.SECP256R1())
AUTHORITY = make_authority(NOW)


def request(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, *names: x509.GeneralName) -> bytes:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "root of all")])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, SHA256()).public_bytes(Encoding.DER)


def test_names_in_a_request_are_not_read() -> None:
    wish = x509.UniformResourceIdentifier("studio://agent/somebody-else?generation=1")
    public_key = requested_key(request(KEY, wish))
    name = NodeName(Identity.KIND_AGENT, "h1", 1)
    leaf = certificates(node_certificate(AUTHORITY, name, public_key, NOW, DAY).chain)[0]
    assert node_name(leaf) == name
    assert b"somebody-else" not in leaf.public_bytes(Encoding.DER)
    assert b"root of all" not in leaf.public_bytes(Encoding.DER)


@given(st.binary(max_size=200))
def test_what_is_no_request_is_refused(csr: bytes) -> None:
    with pytest.raises(InvalidError):
        requested_key(csr)


def test_other_keys_and_broken_signatures_are_refused() -> None:
    good = bytearray(request(KEY))
    good[-1] ^= 1
    others = [
        request(ec.generate_private_key(ec.SECP384R1())),
        request(rsa.generate_private_key(65537, 2048)),
        bytes(good),
        b"x" * 5000,
    ]
    for csr in others:
        with pytest.raises(InvalidError):
            requested_key(csr)


def test_a_nodes_certificate_stands_for_no_server_and_signs_nothing() -> None:
    issued = node_certificate(AUTHORITY, NodeName(Identity.KIND_GATEWAY, "g1", 2), KEY.public_key(), NOW, DAY)
    leaf = certificates(issued.chain)[0]
    usages = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usages) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert leaf.not_valid_after_utc - NOW == DAY
    assert signed_by(leaf, AUTHORITY.certificate)
    assert not signed_by(leaf, make_authority(NOW).certificate)


def test_no_certificate_outlives_its_authority() -> None:
    late = AUTHORITY.certificate.not_valid_after_utc - timedelta(hours=1)
    issued = node_certificate(AUTHORITY, NodeName(Identity.KIND_AGENT, "h1", 1), KEY.public_key(), late, DAY)
    assert issued.not_after == AUTHORITY.certificate.not_valid_after_utc


def test_a_coordinators_certificate_names_where_it_is_dialled_and_brings_its_authority() -> None:
    chain = certificates(server_certificate(AUTHORITY, ["control", "10.0.0.5", "::1"], KEY.public_key(), NOW, DAY))
    names = chain[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["control"]
    assert {str(one) for one in names.get_values_for_type(x509.IPAddress)} == {"10.0.0.5", "::1"}
    assert chain[-1] == AUTHORITY.certificate
    assert node_name(chain[0]) is None


@pytest.mark.parametrize(
    ("listen", "more", "is_allowed"),
    [
        ("127.0.0.1:7070", [], True),
        ("[::1]:7070", [], True),
        ("localhost:7070", [], True),
        ("0.0.0.0:7070", [], False),
        ("10.0.0.5:7070", [], False),
        ("control:7070", [], False),
        ("10.0.0.5:7070", ["--insecure-listen"], True),
        ("10.0.0.5:7070", ["--tls"], True),
    ],
)
def test_clear_text_stays_on_loopback_unless_told_otherwise(listen: str, more: list[str], is_allowed: bool) -> None:
    arguments = parser().parse_args(["serve", "--listen", listen, *more])
    if is_allowed:
        assert (tls_flags(arguments) is not None) == ("--tls" in more)
    else:
        with pytest.raises(SafetyError, match="without TLS"):
            tls_flags(arguments)


def test_the_ports_of_operators_and_nodes_are_named_in_the_certificate() -> None:
    more = ["--tls", "--advertise", "control:7070", "--tls-name", "10.9.9.9", "--admin-listen", "10.0.0.6:7072"]
    flags = tls_flags(parser().parse_args(["serve", "--listen", "0.0.0.0:7070", *more]))
    assert flags is not None
    assert {"control", "10.9.9.9", "10.0.0.6", "127.0.0.1", "localhost"} <= set(flags.names)
    assert "0.0.0.0" not in flags.names


def test_loopback_is_told_from_names_that_only_sound_like_it() -> None:
    assert not is_loopback("localhost.example.com")
    assert is_loopback("127.3.2.1")
