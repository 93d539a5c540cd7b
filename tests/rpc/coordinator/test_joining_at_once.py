"""A join token lets one node in, however many show it at once; who is refused is in the audit log, up to a bound."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from fakes.tls_coordinator import TlsCoordinator, tls_coordinator
from studio.v1.access_service_pb2 import ListAuditRequest, ListIdentitiesRequest
from studio.v1.identity_service_pb2 import JoinRequest
from studio.v1.identity_service_pb2_grpc import IdentityServiceStub
from studio_coordinator.access.journal import OF_STRANGERS
from studio_coordinator.store.database import Database
from studio_runtime.channel import open_channel
from studio_runtime.identity.join import request_for
from studio_runtime.tls import ClientTls


@pytest.fixture
async def coordinator(database: Database, tmp_path: Path) -> AsyncIterator[TlsCoordinator]:
    async with tls_coordinator(database, tmp_path / "coordinator") as running:
        yield running


async def test_of_a_hundred_that_use_one_token_at_once_one_joins(coordinator: TlsCoordinator) -> None:
    token = await coordinator.join_token(name="h1")
    tls = ClientTls(coordinator.office.keyring.bundle)

    async def attempt(number: int) -> grpc.StatusCode:
        csr = request_for(ec.generate_private_key(ec.SECP256R1()))
        try:
            await IdentityServiceStub(channels[number % 4]).Join(JoinRequest(token=token.secret, csr=csr), timeout=60)
        except grpc.aio.AioRpcError as error:
            return error.code()
        return grpc.StatusCode.OK

    channels = [open_channel(coordinator.admin_address, tls) for _ in range(4)]
    codes = await asyncio.gather(*map(attempt, range(100)))
    await asyncio.gather(*(channel.close() for channel in channels))
    assert codes.count(grpc.StatusCode.OK) == 1
    assert codes.count(grpc.StatusCode.UNAUTHENTICATED) == 99
    # The refusals are in the audit log, as many as a stranger may put there, and none with the token's secret.
    async with coordinator.access() as access:
        joined = await access.ListIdentities(ListIdentitiesRequest(), metadata=coordinator.metadata)
        audited = await access.ListAudit(ListAuditRequest(limit=500), metadata=coordinator.metadata)
    assert [(one.name, one.generation) for one in joined.identities if one.name == "h1"] == [("h1", 1)]
    told = [entry for entry in audited.entries if entry.action == "IdentityService/Join"]
    refused = [entry for entry in told if entry.outcome == "UNAUTHENTICATED"]
    assert len(told) - len(refused) == 1
    assert OF_STRANGERS[0] <= len(refused) < 99
    assert {(entry.actor, entry.object) for entry in refused} == {("unknown", f"JoinToken/{token.token.id}")}
    assert all(entry.peer.startswith("ipv4:127.0.0.1:") for entry in refused)
    assert token.secret not in str(told)


async def test_what_is_no_token_is_refused_and_told_without_a_name_for_it(coordinator: TlsCoordinator) -> None:
    channel = open_channel(coordinator.admin_address, ClientTls(coordinator.office.keyring.bundle))
    request = JoinRequest(token="vsj_nonsense", csr=b"none", host_name="h" * 100_000)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await IdentityServiceStub(channel).Join(request, timeout=60)
    await channel.close()
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    async with coordinator.access() as access:
        audited = await access.ListAudit(ListAuditRequest(), metadata=coordinator.metadata)
    (entry,) = [entry for entry in audited.entries if entry.action == "IdentityService/Join"]
    assert (entry.object, entry.outcome) == ("", "INVALID_ARGUMENT")
    # What a stranger says of itself is kept short.
    assert 0 < len(entry.after) < 300
    assert "nonsense" not in str(entry)
