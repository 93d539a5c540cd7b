"""Who may call the nodes' port: what the handshake refuses, and what the first message does."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from fakes.agent import FakeAgent
from fakes.tls_coordinator import TlsCoordinator, hello, tls_coordinator
from sqlalchemy import update
from studio.v1.access_service_pb2 import ListIdentitiesRequest, RevokeIdentityRequest
from studio.v1.admin_service_pb2 import GetStatusRequest, RemoveHostRequest
from studio.v1.admin_service_pb2_grpc import AdminServiceStub
from studio.v1.agent_service_pb2 import ReportTelemetryRequest
from studio.v1.agent_service_pb2_grpc import AgentServiceStub
from studio.v1.host_pb2 import Host
from studio.v1.identity_service_pb2 import Identity
from studio.v1.route_service_pb2 import GatewayHello, WatchRoutesRequest, WatchRoutesResponse
from studio.v1.route_service_pb2_grpc import RouteServiceStub
from studio_coordinator.access import authenticate
from studio_coordinator.authority.certificates import Signer, make_authority, node_certificate
from studio_coordinator.store import identities
from studio_coordinator.store.database import Database
from studio_coordinator.store.hosts import HOSTS
from studio_runtime.identity.names import NodeName
from studio_runtime.identity.stored import key_pem
from studio_runtime.tls import ClientTls

HOUR = timedelta(hours=1)


@pytest.fixture
async def coordinator(database: Database, tmp_path: Path) -> AsyncIterator[TlsCoordinator]:
    async with tls_coordinator(database, tmp_path) as running:
        yield running


def issued(coordinator: TlsCoordinator, signer: Signer, node_id: str, at: datetime) -> ClientTls:
    """A certificate that counts for an hour from ``at``, whoever signs it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = NodeName(Identity.KIND_AGENT, node_id, 1)
    chain = node_certificate(signer, name, key.public_key(), at, HOUR).chain
    return ClientTls(coordinator.office.keyring.bundle, chain, key_pem(key))


async def answer_to(coordinator: TlsCoordinator, tls: ClientTls | None, said: str = "") -> tuple[grpc.StatusCode, str]:
    """How a control stream ends that says Hello; OK where it was welcomed."""
    async with coordinator.channel(tls) as channel:
        call = AgentServiceStub(channel).Connect()
        try:
            agent = FakeAgent(channel, "h1")
            await agent.open(hello("calls-itself-so", said))
        except (AssertionError, asyncio.InvalidStateError, grpc.aio.AioRpcError):
            return await agent._call.code(), await agent._call.details() or ""
        finally:
            call.cancel()
        agent.hang_up()
        return grpc.StatusCode.OK, agent.welcome.host_name


async def to_the_end(stream: grpc.aio.StreamStreamCall[WatchRoutesRequest, WatchRoutesResponse]) -> None:
    """Read until it ends, and raise what it ends with."""
    while isinstance(await stream.read(), WatchRoutesResponse):
        pass


async def forgets(admin: AdminServiceStub, coordinator: TlsCoordinator, database: Database) -> bool:
    """Have the one host be lost and forgotten; False where the leader, which has just seen it, judged otherwise in between."""
    async with database.transaction() as conn:
        await conn.execute(update(HOSTS).values(state=Host.STATE_LOST))
    try:
        await admin.RemoveHost(RemoveHostRequest(host="h1"), metadata=coordinator.metadata)
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.FAILED_PRECONDITION:
            return False
        raise
    return True


async def test_a_host_is_whom_its_certificate_names(coordinator: TlsCoordinator) -> None:
    minted = await coordinator.minted("h1")
    assert await answer_to(coordinator, minted.tls) == (grpc.StatusCode.OK, "h1")


@pytest.mark.parametrize("which", ["expired", "not yet valid", "another authority", "none at all"])
async def test_the_handshake_refuses(coordinator: TlsCoordinator, which: str) -> None:
    await coordinator.minted("h1")
    now, signing = datetime.now(UTC), coordinator.office.keyring.signing
    tls = {
        "expired": lambda: issued(coordinator, signing, "h1", now - 2 * HOUR),
        "not yet valid": lambda: issued(coordinator, signing, "h1", now + HOUR),
        "another authority": lambda: issued(coordinator, make_authority(now), "h1", now),
        "none at all": lambda: ClientTls(coordinator.office.keyring.bundle),
    }[which]()
    code, said = await answer_to(coordinator, tls)
    # No servicer was asked: one would have said why.
    assert code is grpc.StatusCode.UNAVAILABLE
    assert "identity" not in said
    # The same with a certificate that is right in this one respect.
    right = issued(coordinator, signing, "h1", now)
    assert (await answer_to(coordinator, right))[0] is grpc.StatusCode.OK


async def test_clear_text_is_not_answered(coordinator: TlsCoordinator) -> None:
    assert (await answer_to(coordinator, None))[0] is grpc.StatusCode.UNAVAILABLE


async def test_a_host_cannot_speak_for_another(coordinator: TlsCoordinator) -> None:
    await coordinator.minted("h2")
    minted = await coordinator.minted("h1")
    code, said = await answer_to(coordinator, minted.tls, said="h2")
    assert code is grpc.StatusCode.PERMISSION_DENIED
    assert "h1" in said
    assert "h2" in said
    async with coordinator.channel(minted.tls) as channel:
        call = AgentServiceStub(channel).ReportTelemetry()
        await call.write(ReportTelemetryRequest(host_id="h2"))
        assert await call.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_a_gateway_is_no_host_and_a_host_no_gateway(coordinator: TlsCoordinator) -> None:
    gateway = await coordinator.minted("g1", Identity.KIND_GATEWAY)
    assert (await answer_to(coordinator, gateway.tls))[0] is grpc.StatusCode.PERMISSION_DENIED
    agent = await coordinator.minted("h1")
    async with coordinator.channel(agent.tls) as channel:
        call = RouteServiceStub(channel).WatchRoutes()
        await call.write(WatchRoutesRequest(hello=GatewayHello(gateway_id="h1")))
        assert await call.code() is grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize(("said", "is_welcome"), [("g1", True), ("g1/worker-3", True), ("g2", False), ("g12", False)])
async def test_a_gateway_speaks_for_itself_and_its_workers(
    coordinator: TlsCoordinator, said: str, is_welcome: bool
) -> None:
    gateway = await coordinator.minted("g1", Identity.KIND_GATEWAY)
    async with coordinator.channel(gateway.tls) as channel:
        call = RouteServiceStub(channel).WatchRoutes()
        await call.write(WatchRoutesRequest(hello=GatewayHello(gateway_id=said)))
        if is_welcome:
            assert isinstance(await call.read(), WatchRoutesResponse)
            call.cancel()
        else:
            assert await call.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_revoking_cuts_the_streams_and_refuses_from_then_on(coordinator: TlsCoordinator) -> None:
    host = await coordinator.minted("h1")
    gateway = await coordinator.minted("g1", Identity.KIND_GATEWAY)
    async with coordinator.channel(host.tls) as channel, coordinator.channel(gateway.tls) as other:
        agent = await FakeAgent(channel, "h1").open(hello("h1"))
        running = asyncio.create_task(agent.run())
        watching = RouteServiceStub(other).WatchRoutes()
        await watching.write(WatchRoutesRequest(hello=GatewayHello(gateway_id="g1")))
        await watching.read()
        async with coordinator.access() as access:
            for name in ("h1", "g1"):
                request = RevokeIdentityRequest(identity=name, reason="sold")
                await access.RevokeIdentity(request, metadata=coordinator.metadata)
        await asyncio.wait_for(running, 10)
        assert agent.ended is not None
        with pytest.raises(grpc.aio.AioRpcError, match="sold") as refused:
            await asyncio.wait_for(to_the_end(watching), 10)
        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
    code, said = await answer_to(coordinator, host.tls)
    assert code is grpc.StatusCode.PERMISSION_DENIED
    assert "sold" in said


async def test_a_refused_host_reports_nothing_more(coordinator: TlsCoordinator, database: Database) -> None:
    minted = await coordinator.minted("h1")
    async with database.transaction() as conn:
        await identities.refuse(conn, "h1", "sold", datetime.now(UTC))
    async with coordinator.channel(minted.tls) as channel:
        call = AgentServiceStub(channel).ReportTelemetry()
        await call.write(ReportTelemetryRequest(host_id="h1"))
        assert await call.code() is grpc.StatusCode.PERMISSION_DENIED
        assert "sold" in (await call.details() or "")


async def test_a_forgotten_host_is_refused_until_it_joins_again(
    coordinator: TlsCoordinator, database: Database
) -> None:
    minted = await coordinator.minted("h1")
    assert (await answer_to(coordinator, minted.tls))[0] is grpc.StatusCode.OK
    async with coordinator.operators() as channel:
        while not await forgets(AdminServiceStub(channel), coordinator, database):
            pass
    code, said = await answer_to(coordinator, minted.tls)
    assert code is grpc.StatusCode.PERMISSION_DENIED, said
    assert "forgotten" in said


async def test_a_console_calls_with_a_token_until_its_certificate_is_refused(
    coordinator: TlsCoordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authenticate, "REMEMBERED_SECONDS", 0.0)
    console = await coordinator.minted("c1", Identity.KIND_CONSOLE)
    async with coordinator.channel(console.tls) as channel, coordinator.access() as access:
        admin = AdminServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError, match="gave no token"):
            await admin.GetStatus(GetStatusRequest())
        await admin.GetStatus(GetStatusRequest(), metadata=coordinator.metadata)
        await access.RevokeIdentity(RevokeIdentityRequest(identity="c1", reason="sold"), metadata=coordinator.metadata)
        with pytest.raises(grpc.aio.AioRpcError, match="sold") as refused:
            await admin.GetStatus(GetStatusRequest(), metadata=coordinator.metadata)
        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_two_agents_with_one_identity_that_call_in_turn_are_locked(coordinator: TlsCoordinator) -> None:
    minted = await coordinator.minted("h1")
    codes = []
    for instance in ("a", "b", "a", "b", "a"):
        async with coordinator.channel(minted.tls) as channel:
            agent = FakeAgent(channel, "h1")
            try:
                await agent.open(hello("h1", instance=instance))
                codes.append(grpc.StatusCode.OK)
                agent.hang_up()
            except (AssertionError, asyncio.InvalidStateError, grpc.aio.AioRpcError):
                codes.append(await agent._call.code())
    denied, ok = grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.OK
    assert codes == [ok, ok, ok, denied, denied]
    async with coordinator.access() as access:
        answer = await access.ListIdentities(ListIdentitiesRequest(), metadata=coordinator.metadata)
    assert "two machines" in answer.identities[0].locked_reason


async def test_an_agent_that_starts_again_and_again_is_no_copy(coordinator: TlsCoordinator) -> None:
    minted = await coordinator.minted("h1")
    for number in range(5):
        async with coordinator.channel(minted.tls) as channel:
            for _ in range(2):
                agent = await FakeAgent(channel, "h1").open(hello("h1", instance=f"start-{number}"))
                agent.hang_up()


async def test_what_another_coordinator_revokes_is_cut_off_here_as_well(
    coordinator: TlsCoordinator, database: Database
) -> None:
    minted = await coordinator.minted("h1")
    async with coordinator.channel(minted.tls) as channel:
        agent = await FakeAgent(channel, "h1").open(hello("h1"))
        running = asyncio.create_task(agent.run())
        async with database.transaction() as conn:
            await identities.refuse(conn, "h1", "sold", datetime.now(UTC))
        await asyncio.wait_for(running, 20)
        assert agent.ended is not None
