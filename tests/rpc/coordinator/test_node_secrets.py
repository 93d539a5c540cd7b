"""Hosts get the secrets of recipes placed on them, gateways those of providers; an agent keeps them in its memory."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest
from builders import a_recipe, an_assignment
from fakes.operators import LOCAL, Guarded, guarded_coordinator
from sqlalchemy import text
from studio.v1 import access_service_pb2 as access_pb2
from studio.v1 import admin_service_pb2 as admin_pb2
from studio.v1.agent_service_pb2 import GetSecretsRequest, Welcome
from studio.v1.agent_service_pb2_grpc import AgentServiceStub
from studio.v1.recipe_pb2 import ModelSource
from studio.v1.route_pb2 import ProviderRoute
from studio.v1.route_service_pb2 import GetProviderSecretsRequest
from studio.v1.route_service_pb2_grpc import RouteServiceStub
from studio_agent.latest import Latest
from studio_agent.link import Link
from studio_agent.secrets import SecretBox, SecretUnavailableError, wanted
from studio_coordinator.store import assignments
from studio_coordinator.store.database import Database

BEARER = (("authorization", f"Bearer {LOCAL}"),)
AS_H1 = (*BEARER, ("studio-host-id", "h1"))


@pytest.fixture
async def guarded(database: Database) -> AsyncIterator[Guarded]:
    async with guarded_coordinator(database) as coordinator:
        for name in ("hub", "engine", "provider", "other"):
            request = access_pb2.PutSecretRequest(name=name, value=f"value of {name}")
            await coordinator.local.access("PutSecret", request)
        provider = ProviderRoute(model="m", provider_model="openai/m", api_key_secret="provider")
        await coordinator.local.admin("AddProvider", admin_pb2.AddProviderRequest(provider=provider))
        recipe = a_recipe("tiny", model=ModelSource(source="hf://o/m", token_secret="hub"))
        recipe.secrets["API_KEY"] = "engine"
        assignment = an_assignment(1, "chat-1")
        assignment.replicas[0].recipe.CopyFrom(recipe)
        async with database.transaction() as conn:
            await conn.execute(text("SET LOCAL session_replication_role = replica"))
            assert await assignments.put_assignment(conn, "h1", assignment, 1)
        yield coordinator


async def code_of(call: grpc.aio.UnaryUnaryCall[object, object]) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    return refused.value.code()


async def test_a_host_gets_what_its_recipes_name_and_nothing_else(guarded: Guarded) -> None:
    agents = AgentServiceStub(guarded.channel)
    answer = await agents.GetSecrets(GetSecretsRequest(names=["hub", "engine"]), metadata=AS_H1)
    assert dict(answer.values) == {"hub": "value of hub", "engine": "value of engine"}
    for names in (["other"], ["hub", "provider"], ["nowhere"]):
        code = await code_of(agents.GetSecrets(GetSecretsRequest(names=names), metadata=AS_H1))
        assert code is grpc.StatusCode.PERMISSION_DENIED
    another = (*BEARER, ("studio-host-id", "h2"))
    code = await code_of(agents.GetSecrets(GetSecretsRequest(names=["hub"]), metadata=another))
    assert code is grpc.StatusCode.PERMISSION_DENIED


async def test_a_gateway_gets_what_providers_name_and_nothing_else(guarded: Guarded) -> None:
    gateways = RouteServiceStub(guarded.channel)
    answer = await gateways.GetProviderSecrets(GetProviderSecretsRequest(names=["provider"]), metadata=BEARER)
    assert dict(answer.values) == {"provider": "value of provider"}
    request = GetProviderSecretsRequest(names=["provider", "engine"])
    assert await code_of(gateways.GetProviderSecrets(request, metadata=BEARER)) is grpc.StatusCode.PERMISSION_DENIED


def a_box(link: Latest[Link | None]) -> SecretBox:
    return SecretBox(link, "h1")


async def test_a_box_waits_for_a_session_and_then_remembers(guarded: Guarded) -> None:
    link: Latest[Link | None] = Latest(None)
    box, told = a_box(link), list[str]()
    names = frozenset({"engine"})
    waiting = asyncio.create_task(box.obtain(names, told.append))
    async with asyncio.timeout(20):
        while not told:
            await asyncio.sleep(0.01)
    assert told == ["waits for the secret engine: no coordinator is connected"]
    link.set(Link(guarded.channel, Welcome(), BEARER))
    assert await waiting == {"engine": "value of engine"}
    link.set(None)
    assert await box.obtain(names, told.append) == {"engine": "value of engine"}
    assert "value of engine" not in repr(box)


async def test_a_box_has_the_newest_value(guarded: Guarded) -> None:
    box = a_box(Latest(Link(guarded.channel, Welcome(), BEARER)))
    await box.obtain(frozenset({"engine"}), print)
    await guarded.local.access("PutSecret", access_pb2.PutSecretRequest(name="engine", value="the newer value"))
    assert await box.obtain(frozenset({"engine"}), print) == {"engine": "the newer value"}


async def test_a_box_is_told_no(guarded: Guarded) -> None:
    box = a_box(Latest(Link(guarded.channel, Welcome(), BEARER)))
    with pytest.raises(SecretUnavailableError, match="no recipe that is placed on host h1 names the secret other"):
        await box.obtain(frozenset({"other"}), print)
    await guarded.local.access("RemoveSecret", access_pb2.RemoveSecretRequest(name="engine", force=True))
    with pytest.raises(SecretUnavailableError, match="not stored"):
        await box.obtain(frozenset({"engine"}), print)


async def test_what_needs_no_secret_asks_nobody() -> None:
    assert await a_box(Latest(None)).obtain(frozenset(), print) == {}
    assert wanted(a_recipe()).names == frozenset()
