"""An authority that somebody else made: given by files, and followed by rotation."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID
from fakes.agent import FakeAgent
from fakes.tls_coordinator import TlsCoordinator, hello, joined, renew, tls_coordinator
from studio.v1.access_service_pb2 import (
    RotateAuthorityRequest,
)
from studio_coordinator.authority.certificates import Signer
from studio_coordinator.store.database import Database
from studio_runtime.identity.folder import IdentityFolder

HOUR = timedelta(hours=1)


@asynccontextmanager
async def speaking(coordinator: TlsCoordinator, folder: IdentityFolder) -> AsyncIterator[FakeAgent]:
    async with coordinator.channel(folder.tls()) as channel:
        agent = await FakeAgent(channel, "h1").open(hello("h1"))
        yield agent
        agent.hang_up()


@pytest.mark.parametrize("kind", ["root", "intermediate"])
async def test_an_authority_of_somebody_elses(database: Database, tmp_path: Path, kind: str) -> None:
    given = an_authority(intermediate=kind == "intermediate")
    async with tls_coordinator(database, tmp_path / "coordinator", given=given) as coordinator:
        folder = await joined(coordinator, tmp_path / "identity")
        assert folder.load().signed_by == given.fingerprint
        async with speaking(coordinator, folder):
            pass
        async with coordinator.access() as access:
            with pytest.raises(grpc.aio.AioRpcError, match="was given with --ca-cert"):
                await access.RotateAuthority(RotateAuthorityRequest(), metadata=coordinator.metadata)


async def test_a_given_authority_follows_the_own_one_by_rotation(database: Database, tmp_path: Path) -> None:
    async with tls_coordinator(database, tmp_path / "coordinator") as coordinator:
        folder = await joined(coordinator, tmp_path / "identity")
    given = an_authority(intermediate=False)
    async with (
        tls_coordinator(database, tmp_path / "coordinator", given=given) as coordinator,
        coordinator.access() as access,
    ):
        folder.keep_coordinators([coordinator.admin_address])
        await renew(folder)
        await access.RotateAuthority(RotateAuthorityRequest(), metadata=coordinator.metadata)
        renewed = await renew(folder)
        assert renewed is not None
        assert renewed.signed_by == given.fingerprint
        async with speaking(coordinator, folder):
            pass


def an_authority(*, intermediate: bool) -> Signer:
    """An RSA root, or an ECDSA authority below one, as an organisation has them."""
    now = datetime.now(UTC)
    root_key = rsa.generate_private_key(65537, 2048)
    root_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "the organisation")])
    root = _authority(root_name, root_name, root_key.public_key(), now).sign(root_key, SHA256())
    if not intermediate:
        return Signer(root, (), root_key)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "the laboratory")])
    return Signer(_authority(name, root_name, key.public_key(), now).sign(root_key, SHA256()), (root,), key)


def _authority(
    name: x509.Name, issuer: x509.Name, key: CertificatePublicKeyTypes, now: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - HOUR)
        .not_valid_after(now + timedelta(days=365))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    )
