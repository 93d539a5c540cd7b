"""The first connection to a coordinator: of all that its port shows, the one authority whose fingerprint one was told beforehand.

Nothing is sent and nothing of what is received is believed but a certificate with that fingerprint; the connection that then
carries the token is verified by it like any other.
"""

import socket
import ssl
from collections.abc import Iterable
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from studio_runtime.certificates import fingerprint
from studio_runtime.errors import SafetyError, UnavailableError
from studio_runtime.settings import Address

SECONDS = 10.0


class WrongAuthorityError(SafetyError):
    """Nothing there has the fingerprint that was asked for."""

    reason = "wrong_authority"


def pinned_authority(address: Address, wanted: str) -> bytes:
    """The authority (PEM) with fingerprint ``wanted`` that the TLS port at ``address`` shows. Blocks for SECONDS at most.

    Raises UnavailableError where nothing answers in TLS, WrongAuthorityError where another authority does.
    """
    wanted = wanted.lower().removeprefix("sha256:").replace(":", "")
    try:
        shown = list(_shown_by(address))
    except OSError as error:
        raise UnavailableError(
            f"the coordinator at {address} does not answer in TLS: {error}",
            "Name the address that it was given with --admin-listen.",
        ) from error
    for certificate in shown:
        if fingerprint(certificate) == wanted:
            return certificate.public_bytes(Encoding.PEM)
    raise WrongAuthorityError(
        f"what answers at {address} is not signed by the authority with fingerprint {wanted}",
        "Nothing was sent there. Is it the right address? `studio authority show` tells the fingerprint.",
    )


def _shown_by(address: Address) -> Iterable[x509.Certificate]:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    with (
        socket.create_connection((address.host, address.port), SECONDS) as connection,
        context.wrap_socket(connection, server_hostname=address.host) as tls,
    ):
        yield from (x509.load_der_x509_certificate(_der(shown)) for shown in _unverified_chain(tls))


def _unverified_chain(tls: ssl.SSLSocket) -> Iterable[Any]:
    if hasattr(tls, "get_unverified_chain"):
        return list(tls.get_unverified_chain())
    # Public since Python 3.13; before, the same method of the object beneath.
    return list(tls._sslobj.get_unverified_chain() or ())  # type: ignore[attr-defined] # noqa: SLF001 - see above


def _der(shown: Any) -> bytes:
    """The certificate's bytes: what 3.13 hands out already, and what its object gives before."""
    return shown if isinstance(shown, bytes) else bytes(ssl.PEM_cert_to_DER_cert(shown.public_bytes()))
