"""How a node joins: a token and a request for a certificate up, the certificate down."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from studio.v1.identity_service_pb2 import Certificate, Identity, JoinRequest
from studio.v1.identity_service_pb2_grpc import IdentityServiceStub

from studio_runtime.channel import open_channel
from studio_runtime.errors import InvalidError, StudioError, UnavailableError, from_rpc_error
from studio_runtime.identity.folder import IdentityFolder
from studio_runtime.identity.join_token import JoinTokenText
from studio_runtime.identity.names import kind_word
from studio_runtime.identity.ownership import as_owner_of, hand_over
from studio_runtime.identity.pinning import pinned_authority
from studio_runtime.identity.stored import StoredIdentity, parse_key
from studio_runtime.settings import Address
from studio_runtime.tls import ClientTls

CALL_SECONDS = 15.0


@dataclass(frozen=True)
class Joining:
    """Who joins where, and how it knows that this is the right coordinator: by a fingerprint or by a CA file."""

    kind: Identity.Kind.ValueType
    # What this node calls itself; a token for one name goes before it.
    name: str
    # Of the port that needs no certificate, --admin-listen; of one installation.
    coordinators: Sequence[Address]
    fingerprint: str = ""
    ca_file: Path | None = None


async def join(folder: IdentityFolder, joining: Joining, token_text: str) -> tuple[StoredIdentity, Identity]:
    """Join and keep the identity in ``folder``; an identity that was there is replaced. Raises StudioError."""
    token = JoinTokenText.parse(token_text)
    if token.kind != joining.kind:
        raise InvalidError(
            f"this join token is for a node of kind {kind_word(token.kind)}, not {kind_word(joining.kind)}",
            "It was not used. Ask for one of the right kind.",
        )
    state = folder.root.parent
    state.mkdir(parents=True, exist_ok=True)
    hand_over(folder.root)
    with as_owner_of(state):
        folder.drop_next_key()
        key = parse_key(folder.next_key())
    request = JoinRequest(token=str(token), csr=request_for(key), host_name=joining.name)
    certificate = await _first_answer(joining, request)
    with as_owner_of(state):
        # Before the identity, whose file says that this node has joined: without them it could never be renewed.
        folder.keep_coordinators(joining.coordinators)
        folder.take(certificate)
    return folder.load(), certificate.identity


def request_for(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A request (PKCS#10, DER) for a certificate; it carries no name, for none would be read."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, SHA256()).public_bytes(Encoding.DER)


async def _first_answer(joining: Joining, request: JoinRequest) -> Certificate:
    """Of the first coordinator that answers at all; a refusal is an answer."""
    failure: StudioError = InvalidError("no coordinator was named")
    for address in joining.coordinators:
        try:
            async with open_channel(address, await _trust(joining, address)) as channel:
                answer = await IdentityServiceStub(channel).Join(request, timeout=CALL_SECONDS)
                return answer.certificate
        except grpc.aio.AioRpcError as error:
            failure = from_rpc_error(error, f"join at {address}")
            if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                break
        except UnavailableError as error:
            failure = error
    raise failure


async def _trust(joining: Joining, address: Address) -> ClientTls:
    if joining.ca_file is not None:
        return ClientTls.trusting(joining.ca_file)
    return ClientTls(await asyncio.to_thread(pinned_authority, address, joining.fingerprint))
