"""Many identities at once, without tokens: for benchmarks and tests that need a fleet of certificates within seconds."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography.hazmat.primitives.asymmetric import ec
from studio.v1.identity_service_pb2 import Identity
from studio_runtime.identity.names import NodeName
from studio_runtime.identity.stored import key_pem
from studio_runtime.tls import ClientTls

from studio_coordinator.authority.certificates import node_certificate
from studio_coordinator.authority.office import AuthorityOffice
from studio_coordinator.store import identities
from studio_coordinator.store.identities import IdentityRow

DAY = timedelta(hours=24)


@dataclass(frozen=True)
class Minted:
    """A node that may call: its id, and what its channels need."""

    id: str
    tls: ClientTls = field(repr=False)


async def mint(
    office: AuthorityOffice, kind: Identity.Kind.ValueType, ids: Sequence[str], lifetime: timedelta = DAY
) -> list[Minted]:
    """An identity, named like its id, for each of ``ids``; they share one key, which no real nodes may do."""
    key, now, minted = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC), []
    async with office.database.transaction() as conn:
        keyring = await office.current(conn)
        for node_id in ids:
            issued = node_certificate(keyring.signing, NodeName(kind, node_id, 1), key.public_key(), now, lifetime)
            identity = Identity(id=node_id, kind=kind, name=node_id, generation=1, actor="mint")
            identity.created_at.FromDatetime(now)
            identity.expires_at.FromDatetime(issued.not_after)
            signer = keyring.signing.fingerprint
            await identities.put(conn, IdentityRow(identity, 1, issued.key_fingerprint, signer, keyring.trusted))
            minted.append(Minted(node_id, ClientTls(keyring.bundle, issued.chain, key_pem(key))))
    return minted
