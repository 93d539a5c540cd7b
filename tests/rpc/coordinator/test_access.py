"""Who may do what, over a real connection: each role with each RPC and each owner, generated from the contract."""

import asyncio
from collections.abc import AsyncIterator
from itertools import product
from typing import Any

import grpc
import pytest
from fakes.operators import As, Guarded, guarded_coordinator
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from studio.v1 import access_service_pb2 as access_pb2
from studio.v1 import admin_service_pb2 as admin_pb2
from studio.v1.access_service_pb2 import Operator
from studio.v1.admin_service_pb2_grpc import AdminServiceStub
from studio.v1.agent_service_pb2 import GetSecretsRequest
from studio.v1.agent_service_pb2_grpc import AgentServiceStub
from studio.v1.route_pb2 import ProviderRoute, Tenant
from studio_coordinator.access import interceptor, scope
from studio_coordinator.access.rules import ACCESS_SERVICE, ADMIN_SERVICE, Reach
from studio_coordinator.store.database import Database
from studio_runtime.errors import from_rpc_error

DENIED = grpc.StatusCode.PERMISSION_DENIED
NOT_FOUND = grpc.StatusCode.NOT_FOUND
UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED
OWNERS = ("blue", "red", "")
ROLES = {"viewer": Operator.ROLE_VIEWER, "operator": Operator.ROLE_OPERATOR, "admin": Operator.ROLE_ADMIN}
SERVICES = {
    "admin": (admin_pb2, "AdminService", ADMIN_SERVICE),
    "access": (access_pb2, "AccessService", ACCESS_SERVICE),
}
METHODS = [(service, name) for service, (_, _, rules) in SERVICES.items() for name in rules]
MANIFEST = """
kind: Recipe
name: {owner}
engine: {{name: demo}}
---
kind: Deployment
name: {owner}
recipe: {owner}
replicas: {{min: 0, max: 0}}
tenant: "{tenant}"
"""


@pytest.fixture
async def guarded(database: Database) -> AsyncIterator[Guarded]:
    async with guarded_coordinator(database) as coordinator:
        yield coordinator


async def furnished(guarded: Guarded) -> dict[tuple[str, str], str]:
    """An object of every kind for every owner: its name, by kind and owner."""
    local, names = guarded.local, {}
    for owner in OWNERS:
        name = owner or "fleet"
        if owner:
            await local.admin("PutTenant", admin_pb2.PutTenantRequest(tenant=Tenant(name=owner)))
        manifest = MANIFEST.format(owner=name, tenant=owner)
        await local.admin("Apply", admin_pb2.ApplyRequest(manifest=manifest))
        key = await local.admin("CreateKey", admin_pb2.CreateKeyRequest(name=name, tenant=owner))
        await local.access("PutSecret", access_pb2.PutSecretRequest(name=name, value="a secret value", tenant=owner))
        request = access_pb2.CreateOperatorRequest(name=f"of-{name}", role=Operator.ROLE_VIEWER, tenant=owner)
        await local.access("CreateOperator", request)
        names |= {("Deployment", owner): name, ("Serving", owner): name, ("Recipe", owner): name}
        names |= {("Key", owner): key.key.id, ("Secret", owner): name, ("Operator", owner): f"of-{name}"}
        names |= {("Tenant", owner): owner}
    return names


def request_about(service: str, method: str, names: dict[tuple[str, str], str], owner: str) -> Message:
    """The emptiest request of ``method`` about an object of ``owner``."""
    module, service_name, _ = SERVICES[service]
    described = module.DESCRIPTOR.services_by_name[service_name].methods_by_name[method]
    request: Any = GetMessageClass(described.input_type)()
    kind, path = scope.NAMED.get(f"{service_name}/{method}", ("", ""))
    if (kind, owner) in names:
        at = request
        *parents, field = path.split(".")
        for parent in parents:
            at = getattr(at, parent)
        setattr(at, field, names[kind, owner])
    if f"{service_name}/{method}" in scope.GIVES_TENANT:
        request.tenant = owner
    if method == "ExportState":
        request.names.append(f"Deployment/{names['Deployment', owner]}")
    return request


async def outcome(caller: As, service: str, method: str, request: Message) -> grpc.StatusCode:
    """The status of a call; a stream that goes on is OK with its first answer, or with a second of silence."""
    stub_call = caller.admin if service == "admin" else caller.access
    if method == "WatchEvents":
        # It never ends by itself.
        return grpc.StatusCode.OK
    try:
        await stub_call(method, request)
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


@pytest.mark.parametrize("tenant", ["", "blue"])
async def test_every_rpc_for_every_role_and_owner(guarded: Guarded, tenant: str) -> None:
    names = await furnished(guarded)
    unexpected = []
    # What changes or removes things comes last, so that what is to be refused still finds them.
    for role, (service, method), owner in product(ROLES, METHODS, OWNERS):
        rule = SERVICES[service][2][method]
        caller = await guarded.operator(role, tenant)
        may = ROLES[role] >= rule.role and not (tenant and rule.reach is Reach.FLEET)
        # A key for nobody in particular becomes the tenant's.
        theirs = not tenant or owner == tenant or (method == "CreateKey" and not owner)
        if may and rule.changes and theirs:
            # Whether the change itself works is told by other tests; here it would take away what the next cell asks for.
            continue
        code = await outcome(caller, service, method, request_about(service, method, names, owner))
        if not may:
            expected = code is DENIED
        elif not theirs and (rule.reach is Reach.OWN or method in ("DeleteRecipe", "RollbackRecipe")):
            expected = code in (DENIED, NOT_FOUND)
        else:
            expected = code not in (DENIED, UNAUTHENTICATED)
        if not expected:
            unexpected.append(f"{tenant or 'fleet'} {role}: {method} of {owner or 'fleet'}: {code.name}")
    assert unexpected == []


@pytest.mark.parametrize("part", ["", "/0", "/1", "/"])
async def test_no_spelling_of_a_name_shows_the_log_of_another_tenant(guarded: Guarded, part: str) -> None:
    await furnished(guarded)
    manifest = MANIFEST.format(owner="red", tenant="red").replace("{min: 0, max: 0}", "{min: 1, max: 1}")
    await guarded.local.admin("Apply", admin_pb2.ApplyRequest(manifest=manifest))
    async with asyncio.timeout(20):
        while not (listed := await guarded.local.admin("ListReplicas", admin_pb2.ListReplicasRequest())).replicas:
            await asyncio.sleep(0.02)
    viewer = await guarded.operator("viewer", "blue")
    for name in ("red", listed.replicas[0].id):
        with pytest.raises(grpc.aio.AioRpcError, match="the tenant blue has no serving"):
            await viewer.admin("StreamLogs", admin_pb2.StreamLogsRequest(name=name + part))


async def test_without_a_token_nobody_may_do_anything(guarded: Guarded) -> None:
    names = await furnished(guarded)
    nobody = As(guarded.channel, "")
    for service, method in METHODS:
        if method != "WatchEvents":
            code = await outcome(nobody, service, method, request_about(service, method, names, ""))
            assert code is UNAUTHENTICATED, method


@pytest.mark.parametrize("token", ["nonsense", "vso_aaaaaaaaaaaa_" + "A" * 43 + "00000000", "vsl_x", "sk-abc"])
async def test_a_token_that_is_not_good_is_refused(guarded: Guarded, token: str) -> None:
    caller = As(guarded.channel, token)
    assert await outcome(caller, "admin", "GetStatus", admin_pb2.GetStatusRequest()) is UNAUTHENTICATED


async def test_operators_are_no_nodes(guarded: Guarded) -> None:
    admin = await guarded.operator("admin")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await AgentServiceStub(guarded.channel).GetSecrets(GetSecretsRequest(names=["x"]), metadata=admin.metadata)
    assert refused.value.code() is DENIED


async def test_what_a_tenants_operator_sees_is_the_tenants_alone(guarded: Guarded) -> None:
    await furnished(guarded)
    viewer = await guarded.operator("viewer", "blue")
    seen = await viewer.admin("ListDeployments", admin_pb2.ListDeploymentsRequest())
    assert [one.name for one in seen.deployments] == ["blue"]
    keys = await viewer.admin("ListKeys", admin_pb2.ListKeysRequest())
    assert [one.tenant for one in keys.keys] == ["blue"]
    secrets = await viewer.access("ListSecrets", access_pb2.ListSecretsRequest())
    assert [one.name for one in secrets.secrets] == ["blue"]
    operators = await viewer.access("ListOperators", access_pb2.ListOperatorsRequest())
    assert {one.tenant for one in operators.operators} == {"blue"}
    events = await viewer.admin("ListEvents", admin_pb2.ListEventsRequest())
    assert {event.deployment for event in events.events} == {"blue"}
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await viewer.admin("ExportState", admin_pb2.ExportStateRequest())
    assert refused.value.code() is DENIED


async def test_a_tenants_operator_applies_for_the_tenant(guarded: Guarded) -> None:
    await furnished(guarded)
    operator = await guarded.operator("operator", "blue")

    async def applied(manifest: str) -> grpc.StatusCode:
        return await outcome(operator, "admin", "Apply", admin_pb2.ApplyRequest(manifest=manifest))

    mine = "kind: Recipe\nname: mine\nengine: {name: demo}\n---\nkind: Deployment\nname: mine\nrecipe: mine\n"
    assert await applied(mine) is grpc.StatusCode.OK
    listed = await operator.admin("ListDeployments", admin_pb2.ListDeploymentsRequest(name="mine"))
    assert listed.deployments[0].spec.tenant == "blue"
    assert await applied(mine.replace("demo}", "demo}\ndescription: anew")) is grpc.StatusCode.OK
    assert await applied(MANIFEST.format(owner="red", tenant="blue")) is DENIED
    assert await applied("kind: Recipe\nname: fleet\nengine: {name: demo}\ndescription: anew\n") is DENIED
    assert await applied("kind: Deployment\nname: mine\nrecipe: mine\ntenant: red\n") is DENIED
    reds = "kind: Recipe\nname: gated\nengine: {name: demo}\nsecrets: {TOKEN: red}\n"
    await guarded.local.admin("Apply", admin_pb2.ApplyRequest(manifest=reds))
    # What a recipe is given where it runs is not everybody's who may read it.
    assert await applied("kind: Deployment\nname: borrowed\nrecipe: gated\n") is DENIED
    await guarded.local.admin("Apply", admin_pb2.ApplyRequest(manifest=reds.replace("TOKEN: red", "TOKEN: fleet")))
    assert await applied("kind: Deployment\nname: borrowed\nrecipe: gated\n") is grpc.StatusCode.OK
    stolen = "kind: Recipe\nname: thief\nengine: {name: demo}\nsecrets: {TOKEN: red}\n"
    assert await applied(stolen) is NOT_FOUND
    assert await applied(stolen.replace("red", "blue")) is grpc.StatusCode.OK


@pytest.mark.parametrize(
    ("recipe", "named"),
    [
        ("engine: {name: vllm, path: /opt/vllm}\nmodel: {source: hf://a/b}", "engine.path"),
        (
            "engine: {name: vllm}\nmodel: {source: hf://a/b, revision: "
            + "0" * 40
            + "}\nargs: {trust_remote_code: true}",
            "args.trust_remote_code",
        ),
        ("engine: {name: vllm}\nmodel: {source: hf://a/b}\nextra_args: {tool-server: x}", "extra_args.tool-server"),
    ],
)
async def test_unsafe_recipes_are_an_administrators_to_apply(guarded: Guarded, recipe: str, named: str) -> None:
    request = admin_pb2.ApplyRequest(manifest=f"kind: Recipe\nname: unsafe\n{recipe}\n")
    for caller in (await guarded.operator("operator"), await guarded.operator("admin", "blue")):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await caller.admin("Apply", request)
        assert refused.value.code() is DENIED
        assert named in str(from_rpc_error(refused.value, "apply"))
    admin, operator = await guarded.operator("admin"), await guarded.operator("operator")
    await admin.admin("Apply", request)
    # As it is in force it is nobody's change.
    assert await outcome(operator, "admin", "Apply", request) is grpc.StatusCode.OK


async def test_a_revoked_operator_is_refused_at_once_and_nobody_revokes_themselves(guarded: Guarded) -> None:
    admin, viewer = await guarded.operator("admin"), await guarded.operator("viewer")
    assert await outcome(viewer, "admin", "GetStatus", admin_pb2.GetStatusRequest()) is grpc.StatusCode.OK
    await admin.access("RevokeOperator", access_pb2.RevokeOperatorRequest(name="fleet-viewer"))
    assert await outcome(viewer, "admin", "GetStatus", admin_pb2.GetStatusRequest()) is UNAUTHENTICATED
    own = access_pb2.RevokeOperatorRequest(name="fleet-admin")
    assert await outcome(admin, "access", "RevokeOperator", own) is grpc.StatusCode.FAILED_PRECONDITION
    again = access_pb2.CreateOperatorRequest(name="fleet-viewer", role=Operator.ROLE_VIEWER)
    assert await outcome(admin, "access", "CreateOperator", again) is grpc.StatusCode.ABORTED


async def test_an_expired_token_is_refused(guarded: Guarded) -> None:
    request = access_pb2.CreateOperatorRequest(name="brief", role=Operator.ROLE_VIEWER)
    request.expires_at.GetCurrentTime()
    request.expires_at.seconds += 1
    answer = await guarded.local.access("CreateOperator", request)
    caller = As(guarded.channel, answer.token)
    while await outcome(caller, "admin", "GetStatus", admin_pb2.GetStatusRequest()) is grpc.StatusCode.OK:
        pass
    assert await outcome(caller, "admin", "GetStatus", admin_pb2.GetStatusRequest()) is UNAUTHENTICATED


async def test_an_operator_is_of_a_tenant_that_there_is(guarded: Guarded) -> None:
    request = access_pb2.CreateOperatorRequest(name="x", role=Operator.ROLE_VIEWER, tenant="nowhere")
    assert await outcome(guarded.local, "access", "CreateOperator", request) is NOT_FOUND
    secret = access_pb2.PutSecretRequest(name="x", value="a value", tenant="nowhere")
    assert await outcome(guarded.local, "access", "PutSecret", secret) is NOT_FOUND


async def test_what_a_manifest_says_beside_recipes_needs_the_right_that_its_call_needs(guarded: Guarded) -> None:
    operator, admin = await guarded.operator("operator"), await guarded.operator("admin")
    request = admin_pb2.ApplyRequest(manifest="kind: Tenant\nname: green\n")
    assert await outcome(operator, "admin", "Apply", request) is DENIED
    assert await outcome(admin, "admin", "Apply", request) is grpc.StatusCode.OK


async def test_a_repeated_creation_gives_the_same_token(guarded: Guarded) -> None:
    request = access_pb2.CreateOperatorRequest(name="ci", role=Operator.ROLE_VIEWER, idempotency_key="k" * 20)
    first, second = [await guarded.local.access("CreateOperator", request) for _ in range(2)]
    assert first == second
    assert await outcome(As(guarded.channel, first.token), "admin", "GetStatus", admin_pb2.GetStatusRequest()) is (
        grpc.StatusCode.OK
    )


async def test_providers_on_private_networks_are_an_administrators_to_allow(guarded: Guarded) -> None:
    operator, admin = await guarded.operator("operator"), await guarded.operator("admin")
    inside = ProviderRoute(model="m", provider_model="openai/m", api_base="http://169.254.169.254/v1")
    assert await outcome(operator, "admin", "AddProvider", admin_pb2.AddProviderRequest(provider=inside)) is DENIED
    assert await outcome(admin, "admin", "AddProvider", admin_pb2.AddProviderRequest(provider=inside)) is DENIED
    inside.allow_private = True
    assert await outcome(operator, "admin", "AddProvider", admin_pb2.AddProviderRequest(provider=inside)) is DENIED
    request = admin_pb2.AddProviderRequest(provider=inside)
    assert await outcome(admin, "admin", "AddProvider", request) is grpc.StatusCode.OK


@pytest.mark.parametrize("provider_model", ["ollama/llama", "ollama_chat/llama", "xinference/x"])
async def test_a_provider_that_litellm_looks_for_on_its_own_machine_is_inside(
    guarded: Guarded, provider_model: str
) -> None:
    operator = await guarded.operator("operator")
    request = admin_pb2.AddProviderRequest(provider=ProviderRoute(model="m", provider_model=provider_model))
    assert await outcome(operator, "admin", "AddProvider", request) is DENIED
    assert (await guarded.local.admin("AddProvider", request)).provider.allow_private
    request.provider.provider_model = "openai/gpt-5"
    assert await outcome(operator, "admin", "AddProvider", request) is grpc.StatusCode.OK


async def test_who_is_on_the_machine_allows_a_private_network_by_adding_it(guarded: Guarded) -> None:
    inside = ProviderRoute(model="m", provider_model="openai/m", api_base="http://127.0.0.1:1/v1")
    added = await guarded.local.admin("AddProvider", admin_pb2.AddProviderRequest(provider=inside))
    # The gateway looks again when it asks the provider.
    assert added.provider.allow_private


@pytest.mark.parametrize(
    "wrong", [{"api_base": "https://me:pw@example.com/v1"}, {"api_base": "http://[::/v1"}, {"api_key_env": "STUDIO_X"}]
)
async def test_providers_that_give_something_away_are_refused(guarded: Guarded, wrong: dict[str, str]) -> None:
    provider = ProviderRoute(model="m", provider_model="openai/m", **wrong)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await guarded.local.admin("AddProvider", admin_pb2.AddProviderRequest(provider=provider))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_stream_ends_when_its_token_is_good_no_more(guarded: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interceptor, "ASKED_AGAIN_SECONDS", 0.0)
    viewer = await guarded.operator("viewer")
    request = admin_pb2.WatchEventsRequest()
    watching = AdminServiceStub(guarded.channel).WatchEvents(request, metadata=viewer.metadata, timeout=60)
    applied = admin_pb2.ApplyRequest(manifest=MANIFEST.format(owner="fleet", tenant=""))
    await guarded.local.admin("Apply", applied)
    await anext(aiter(watching))
    await guarded.local.access("RevokeOperator", access_pb2.RevokeOperatorRequest(name="fleet-viewer"))
    await guarded.local.admin("StopDeployment", admin_pb2.StopDeploymentRequest(name="fleet"))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        async for _ in watching:
            pass
    assert refused.value.code() is UNAUTHENTICATED
