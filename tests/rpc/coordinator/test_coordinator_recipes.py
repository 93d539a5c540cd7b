"""Recipes over time and from elsewhere, through the contract; the desired state out of one system and into another."""

import json
import uuid

import grpc
import pytest
from fakes.agent import until
from fakes.gateway import watching
from fakes.postgres import administer, url_of
from fakes.sealed import SEALER
from studio.v1 import admin_service_pb2 as admin_pb2
from studio.v1.admin_service_pb2_grpc import AdminServiceStub
from studio_coordinator.coordinator import running_coordinator
from studio_coordinator.embedded_postgres import Embedded
from studio_coordinator.identity import Identity
from studio_coordinator.plan.snapshot import Timers
from studio_coordinator.store.database import Database
from studio_runtime.channel import open_channel
from studio_runtime.errors import from_rpc_error
from studio_runtime.settings import Address

RECIPE = "kind: Recipe\nname: {name}\nengine: {{name: demo}}\nargs: {{max_model_len: {length}}}\n"
REST = """
kind: Recipe
name: rich
engine: {name: vllm}
model: {source: hf://o/m, revision: 0123456789abcdef0123456789abcdef01234567}
preset: tool-calling
args: {speculative: {method: ngram, num_speculative_tokens: 3}, kv_cache_memory: 3GiB}
extra_args: {compilation-config: {level: 3, sizes: [1, 2.5]}, quote: '1e5'}
env: {A: 'yes'}
resources: {gpu: {count: 2, memory: auto, model: [H100]}}
labels: {team: x}
description: |
  two
  lines
---
kind: Deployment
name: chat
aliases: [gpt-4o-mini]
recipe: tiny
recipe_revision: 2
replicas: {min: 0, max: 3}
idle: {sleep_after: 10m, stop_after: 2h}
rollout: {canary: {share: 10%, for: 5m}}
---
kind: Deployment
name: idle
recipe: rich
"""


async def apply(admin: AdminServiceStub, text: str, **more: object) -> admin_pb2.ApplyResponse:
    return await admin.Apply(admin_pb2.ApplyRequest(manifest=text, **more))  # type: ignore[arg-type]


async def with_history(admin: AdminServiceStub) -> None:
    for length in (10, 20, 30):
        await apply(admin, RECIPE.format(name="tiny", length=length))


async def export(admin: AdminServiceStub, *names: str) -> str:
    return str((await admin.ExportState(admin_pb2.ExportStateRequest(names=names))).manifest)


async def test_history_differences_and_the_way_back(admin: AdminServiceStub) -> None:
    await with_history(admin)
    listed = await admin.ListRecipeRevisions(admin_pb2.ListRecipeRevisionsRequest(name="tiny"))
    assert [one.revision for one in listed.revisions] == [3, 2, 1]
    newest = await admin.DiffRecipe(admin_pb2.DiffRecipeRequest(name="tiny"))
    assert (newest.from_revision, newest.to_revision) == (2, 3)
    assert list(newest.changes) == ["args.max_model_len: 20 → 30"]
    whole = await admin.DiffRecipe(admin_pb2.DiffRecipeRequest(name="tiny", from_revision=3, to_revision=1))
    assert list(whole.changes) == ["args.max_model_len: 30 → 10"]
    back = await admin.RollbackRecipe(admin_pb2.RollbackRecipeRequest(name="tiny", expected_revision=3))
    assert (back.applied.revision, list(back.applied.changes)) == (4, ["args.max_model_len: 30 → 20"])
    told = await admin.ListEvents(admin_pb2.ListEventsRequest(limit=1))
    assert told.events[0].kind == "recipe.applied"
    assert "r4" in told.events[0].message


async def test_a_stale_way_back_is_refused(admin: AdminServiceStub) -> None:
    await with_history(admin)
    with pytest.raises(grpc.aio.AioRpcError, match="20 → 30") as caught:
        await admin.RollbackRecipe(admin_pb2.RollbackRecipeRequest(name="tiny", expected_revision=2))
    assert caught.value.code() == grpc.StatusCode.ABORTED


async def test_an_apply_that_expects_another_revision_is_refused(admin: AdminServiceStub) -> None:
    await with_history(admin)
    text = RECIPE.format(name="tiny", length=40)
    with pytest.raises(grpc.aio.AioRpcError, match="at revision 3"):
        await apply(admin, text, expected_versions={"Recipe/tiny": 2})
    assert (await apply(admin, text, expected_versions={"Recipe/tiny": 3})).applied[0].revision == 4


async def test_the_whole_state_into_an_empty_system_is_the_same_state(
    admin: AdminServiceStub, postgres: Embedded
) -> None:
    await with_history(admin)
    await apply(admin, REST)
    await admin.StopDeployment(admin_pb2.StopDeploymentRequest(name="idle"))
    exported = await export(admin)
    again = await apply(admin, exported)
    assert {one.outcome for one in again.applied} == {admin_pb2.Applied.OUTCOME_UNCHANGED}, "at home it changes nothing"
    await administer(postgres, "DROP DATABASE IF EXISTS elsewhere WITH (FORCE)", "CREATE DATABASE elsewhere")
    other = Database(url_of(postgres, "elsewhere"))
    try:
        await other.upgrade()
        identity = Identity("coordinator-2", b"pepper", SEALER)
        async with running_coordinator(other, other, identity, Address("127.0.0.1", 0), Timers(), 5.0) as server:
            channel = open_channel(server.address)
            elsewhere = AdminServiceStub(channel)
            tried = await apply(elsewhere, exported, dry_run=True)
            assert len(tried.applied) == 5
            assert not (await elsewhere.ListRecipes(admin_pb2.ListRecipesRequest())).recipes
            await apply(elsewhere, exported)
            assert await export(elsewhere) == exported
            rows = (await elsewhere.ListDeployments(admin_pb2.ListDeploymentsRequest())).deployments
            assert {row.name: (row.stopped, row.target_revision) for row in rows} == {
                "chat": (False, 2),
                "idle": (True, 1),
            }
            pinned = await elsewhere.GetRecipe(admin_pb2.GetRecipeRequest(name="tiny", revision=2))
            assert pinned.recipe.recipe.args.max_model_len.value == 20
            await channel.close()
    finally:
        await other.close()


async def test_what_is_named_is_exported_alone(admin: AdminServiceStub) -> None:
    await with_history(admin)
    await apply(admin, REST)
    assert (
        await export(admin, "Recipe/tiny@1")
        == "kind: Recipe\nname: tiny\nengine:\n  name: demo\nargs:\n  max_model_len: 10\n"
    )
    assert (await export(admin, "Deployment/idle")).count("kind:") == 1
    written_out = await export(admin, "EffectiveRecipe/rich")
    assert "tool_parser: auto" in written_out
    assert "preset" not in written_out
    for wrong in ("tiny", "Recipe/", "Deployment/chat@1", "Host/x"):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await export(admin, wrong)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert "Recipe/NAME" in from_rpc_error(caught.value, "export").hint
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await export(admin, "Recipe/tinny")
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


async def test_upstreams_recipes_become_a_manifest_that_can_be_applied(admin: AdminServiceStub) -> None:
    upstream = json.dumps({"id": "old", "model_path": "o/m", "served_model_name": "chat", "extra_args": {"seed": 1}})
    answer = await admin.ConvertRecipes(admin_pb2.ConvertRecipesRequest(upstream=upstream))
    assert {entry.field for entry in answer.report} >= {"id", "model_path", "served_model_name", "extra_args.seed"}
    applied = (await apply(admin, answer.manifest)).applied
    assert [(one.kind, one.name) for one in applied] == [("Recipe", "old"), ("Deployment", "chat")]
    (row,) = (await admin.ListDeployments(admin_pb2.ListDeploymentsRequest())).deployments
    assert row.stopped
    with pytest.raises(grpc.aio.AioRpcError, match="no recipes of the upstream") as caught:
        await admin.ConvertRecipes(admin_pb2.ConvertRecipesRequest(upstream="{"))
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


async def test_a_repeated_key_is_one_key_and_its_secret_is_nowhere(
    channel: grpc.aio.Channel, admin: AdminServiceStub, database: Database
) -> None:
    request = admin_pb2.CreateKeyRequest(name="ci", models=["chat"], idempotency_key=str(uuid.uuid4()))
    first = await admin.CreateKey(request)
    assert await admin.CreateKey(request) == first
    async with watching(channel) as gateway:
        await until(lambda: gateway.access.keys)
        assert [key.id for key in gateway.access.keys] == [first.key.id]
    other = await admin.CreateKey(admin_pb2.CreateKeyRequest(name="ci", idempotency_key=str(uuid.uuid4())))
    assert (other.key.id, other.secret) != (first.key.id, first.secret)
    async with database.transaction() as conn:
        kept = (await conn.exec_driver_sql("SELECT key, response FROM idempotency_keys")).all()
    assert len(kept) == 2
    dumped = repr(kept).encode()
    assert first.secret.encode() not in dumped
    assert request.idempotency_key.encode() not in dumped
    request.models.append("embed")
    with pytest.raises(grpc.aio.AioRpcError, match="another request"):
        await admin.CreateKey(request)
    with pytest.raises(grpc.aio.AioRpcError, match="can be guessed"):
        await admin.CreateKey(admin_pb2.CreateKeyRequest(name="x", idempotency_key="1"))
