"""The whole desired state out of a system and back: tenants, prices, providers and hosts beside recipes and deployments."""

import grpc
import pytest
from fakes.agent import connected
from studio.v1 import admin_service_pb2 as admin_pb2
from studio.v1.admin_service_pb2_grpc import AdminServiceStub
from studio_coordinator.manifest import parse
from studio_runtime.errors import from_rpc_error

FLEET = """
kind: Tenant
name: physics
description: the people upstairs
limits: {tokens_per_minute: 1000, token_budget: 5000, budget_period: day}
weight: 2
---
kind: Price
model: chat
prompt_micros: 10
completion_micros: 30
---
kind: Provider
model: far
provider_model: openai/gpt-5-mini
api_key_env: OPENAI_API_KEY
fallbacks: [chat]
---
kind: Recipe
name: tiny
engine: {name: demo}
---
kind: Deployment
name: chat
recipe: tiny
tenant: physics
strategy: round_robin
fallbacks: [far]
replicas: {min: 0}
"""


async def apply(admin: AdminServiceStub, text: str, **more: object) -> list[tuple[str, int]]:
    answer = await admin.Apply(admin_pb2.ApplyRequest(manifest=text, **more))  # type: ignore[arg-type]
    return [(f"{one.kind}/{one.name}", one.outcome) for one in answer.applied]


async def exported(admin: AdminServiceStub) -> str:
    return str((await admin.ExportState(admin_pb2.ExportStateRequest())).manifest)


async def test_an_export_holds_everything_and_changes_nothing_where_it_came_from(admin: AdminServiceStub) -> None:
    created = await apply(admin, FLEET)
    assert {outcome for _, outcome in created} == {admin_pb2.Applied.OUTCOME_CREATED}
    text = await exported(admin)
    parsed = parse(text)
    assert not parsed.problems
    assert parsed.objects == ["Recipe/tiny", "Deployment/chat", "Tenant/physics", "Price/chat", "Provider/far"]
    assert "budget_period: day" in text
    again = await apply(admin, text, dry_run=True)
    assert {outcome for _, outcome in again} == {admin_pb2.Applied.OUTCOME_UNCHANGED}
    assert await exported(admin) == text


async def test_a_dry_run_says_what_would_change_and_changes_nothing(admin: AdminServiceStub) -> None:
    await apply(admin, FLEET)
    before = await exported(admin)
    answer = await admin.Apply(
        admin_pb2.ApplyRequest(manifest=FLEET.replace("completion_micros: 30", "completion_micros: 40"), dry_run=True)
    )
    changed = [one for one in answer.applied if one.outcome == admin_pb2.Applied.OUTCOME_CHANGED]
    assert [(one.kind, one.name, list(one.changes)) for one in changed] == [
        ("Price", "chat", ["completion_micros: 30 → 40"])
    ]
    assert await exported(admin) == before


async def test_it_is_taken_whole_or_not_at_all(admin: AdminServiceStub) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await apply(admin, f"{FLEET}---\nkind: Host\nname: nobody\nlabels: {{a: b}}\n")
    assert "there is no host nobody" in from_rpc_error(refused.value, "apply").message
    assert await exported(admin) == ""


async def test_labels_and_cordons_of_hosts_are_part_of_it(channel: grpc.aio.Channel, admin: AdminServiceStub) -> None:
    async with connected(channel, "lab-1"):
        applied = await apply(admin, "kind: Host\nname: lab-1\nlabels: {pool: prod}\ncordoned: true\n")
        assert applied == [("Host/lab-1", admin_pb2.Applied.OUTCOME_CHANGED)]
        assert parse(await exported(admin)).hosts[0].labels == {"pool": "prod"}
        (host,) = (await admin.ListHosts(admin_pb2.ListHostsRequest())).hosts
        assert host.cordoned
        await apply(admin, "kind: Host\nname: lab-1\n")
        assert await exported(admin) == ""
