"""The node rule over mutual TLS: each kind of node calls what is made for it, for itself; who it is its certificate says."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from builders import a_recipe, an_assignment
from fakes.tls_coordinator import TlsCoordinator, tls_coordinator
from sqlalchemy import text
from studio.v1.access_service_pb2 import CreateOperatorRequest, GetCallerRequest, Operator, PutSecretRequest
from studio.v1.access_service_pb2_grpc import AccessServiceStub
from studio.v1.admin_service_pb2 import GetStatusRequest
from studio.v1.admin_service_pb2_grpc import AdminServiceStub
from studio.v1.agent_service_pb2 import GetSecretsRequest
from studio.v1.agent_service_pb2_grpc import AgentServiceStub
from studio.v1.identity_service_pb2 import Identity
from studio.v1.route_service_pb2 import GetProviderSecretsRequest
from studio.v1.route_service_pb2_grpc import RouteServiceStub
from studio_coordinator.store import assignments
from studio_coordinator.store.database import Database

DENIED, UNAUTHENTICATED = grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED
WANTED = GetSecretsRequest(names=["engine"])


@pytest.fixture
async def coordinator(database: Database, tmp_path: Path) -> AsyncIterator[TlsCoordinator]:
    async with tls_coordinator(database, tmp_path) as running:
        async with running.access() as access:
            await access.PutSecret(PutSecretRequest(name="engine", value="a value"), metadata=running.metadata)
        recipe = a_recipe()
        recipe.secrets["API_KEY"] = "engine"
        assignment = an_assignment(1, "chat-1")
        assignment.replicas[0].recipe.CopyFrom(recipe)
        async with database.transaction() as conn:
            await conn.execute(text("SET LOCAL session_replication_role = replica"))
            assert await assignments.put_assignment(conn, "h1", assignment, 1)
        yield running


async def code_of(call: Any) -> grpc.StatusCode:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


async def test_each_host_gets_its_own_secrets_whatever_it_says(coordinator: TlsCoordinator) -> None:
    one, two = await coordinator.minted("h1"), await coordinator.minted("h2")
    async with coordinator.channel(one.tls) as first, coordinator.channel(two.tls) as second:
        answer = await AgentServiceStub(first).GetSecrets(WANTED)
        assert dict(answer.values) == {"engine": "a value"}
        assert await code_of(AgentServiceStub(second).GetSecrets(WANTED)) is DENIED
        lied = (("studio-host-id", "h1"),)
        assert await code_of(AgentServiceStub(second).GetSecrets(WANTED, metadata=lied)) is DENIED


async def test_a_node_calls_only_what_is_made_for_its_kind(coordinator: TlsCoordinator) -> None:
    agent = await coordinator.minted("h1")
    gateway = await coordinator.minted("g1", Identity.KIND_GATEWAY)
    async with coordinator.channel(agent.tls) as h1, coordinator.channel(gateway.tls) as g1:
        assert await code_of(AgentServiceStub(g1).GetSecrets(WANTED)) is DENIED
        assert await code_of(RouteServiceStub(h1).GetProviderSecrets(GetProviderSecretsRequest())) is DENIED
        assert await code_of(RouteServiceStub(g1).GetProviderSecrets(GetProviderSecretsRequest())) is grpc.StatusCode.OK
        for node in (h1, g1):
            assert await code_of(AdminServiceStub(node).GetStatus(GetStatusRequest())) is DENIED
            # Not even with an administrator's token beside its certificate.
            call = AdminServiceStub(node).GetStatus(GetStatusRequest(), metadata=coordinator.metadata)
            assert await code_of(call) is DENIED


async def test_a_console_needs_an_operators_token_beside_its_certificate(coordinator: TlsCoordinator) -> None:
    async with coordinator.access() as access:
        request = CreateOperatorRequest(name="ann", role=Operator.ROLE_VIEWER)
        made = await access.CreateOperator(request, metadata=coordinator.metadata)
        assert await code_of(access.GetCaller(GetCallerRequest())) is UNAUTHENTICATED
    console = await coordinator.minted("c1", Identity.KIND_CONSOLE)
    async with coordinator.channel(console.tls) as channel:
        access = AccessServiceStub(channel)
        assert await code_of(access.GetCaller(GetCallerRequest())) is DENIED
        token = (("authorization", f"Bearer {made.token}"),)
        assert (await access.GetCaller(GetCallerRequest(), metadata=token)).name == "ann"
        assert await code_of(AgentServiceStub(channel).GetSecrets(WANTED, metadata=token)) is DENIED
