"""What is changed is written down with it: who, what, before and after, and never a secret."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from fakes.operators import As, Guarded, guarded_coordinator
from google.protobuf.message import Message
from sqlalchemy import text
from studio.v1 import access_service_pb2 as access_pb2
from studio.v1 import admin_service_pb2 as admin_pb2
from studio.v1.access_service_pb2 import AuditEntry
from studio.v1.route_pb2 import Tenant
from studio_coordinator.access import journal
from studio_coordinator.access.caller import Caller
from studio_coordinator.access.journal import Draft, Journal
from studio_coordinator.store import tenants
from studio_coordinator.store.database import Database
from studio_coordinator.store.witness import WITNESS

SENTINEL, IN_ENV = "sentinel-7f3a91c2", "sentinel-in-env-5d"
DEMO = "kind: Recipe\nname: demo\nengine: {name: demo}\n"
DEPLOYED = DEMO + "---\nkind: Deployment\nname: demo\nrecipe: demo\nreplicas: {min: 0, max: 0}\n"


@pytest.fixture
async def guarded(database: Database) -> AsyncIterator[Guarded]:
    async with guarded_coordinator(database) as coordinator:
        yield coordinator


async def entries(guarded: Guarded, **wanted: Any) -> list[AuditEntry]:
    answer = await guarded.local.access("ListAudit", access_pb2.ListAuditRequest(**wanted))
    return list(answer.entries)


async def refused(caller: As, method: str, request: Message) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await caller.admin(method, request)
    return error.value.code()


async def test_a_change_is_told_with_what_was_and_what_is(guarded: Guarded) -> None:
    operator = await guarded.operator("operator")
    named = As(guarded.channel, operator.token, (("studio-request-id", "r-1"),))
    await named.admin("Apply", admin_pb2.ApplyRequest(manifest=DEPLOYED))
    await named.admin("StopDeployment", admin_pb2.StopDeploymentRequest(name="demo"))
    applied, stopped = (await entries(guarded, actor="fleet-operator"))[-2:]
    assert (applied.action, applied.object) == ("AdminService/Apply", "Recipe/demo, Deployment/demo")
    assert (applied.role, applied.request_id, applied.outcome) == ("operator", "r-1", "OK")
    assert applied.peer.startswith("ipv4:127.0.0.1:")
    assert applied.before == ""
    assert json.loads(applied.after)["Recipe/demo"]["recipe"]["engine"] == {"name": "demo"}
    before, after = (json.loads(part)["Deployment/demo"] for part in (stopped.before, stopped.after))
    assert "stopped" not in before
    assert after["stopped"] is True


async def test_of_a_manifest_only_what_changed_is_told(guarded: Guarded) -> None:
    both = DEMO + "---\n" + DEMO.replace("name: demo\n", "name: other\n", 1)
    await guarded.local.admin("Apply", admin_pb2.ApplyRequest(manifest=both))
    changed = both.replace("engine: {name: demo}", "engine: {name: demo}\ndescription: anew", 1)
    await guarded.local.admin("Apply", admin_pb2.ApplyRequest(manifest=changed))
    (entry,) = (await entries(guarded))[-1:]
    assert entry.object == "Recipe/demo"
    assert json.loads(entry.before)["Recipe/demo"]["revision"] == 1
    assert json.loads(entry.after)["Recipe/demo"]["recipe"]["description"] == "anew"
    # Whoever has the local token calls itself what it likes, and is not taken for an operator of that name.
    assert (entry.actor, entry.role) == ("tester", "local")


async def test_a_new_key_is_named_and_a_rotation_tells_of_both(guarded: Guarded) -> None:
    made = await guarded.local.admin("CreateKey", admin_pb2.CreateKeyRequest(name="app"))
    request = admin_pb2.RotateKeyRequest(id=made.key.id, idempotency_key="r" * 20)
    first, again = [await guarded.local.admin("RotateKey", request) for _ in range(2)]
    assert first == again
    # One transaction and one entry; the repetition changed nothing, and is told as that.
    created, rotated, repeated = (await entries(guarded))[-3:]
    assert (created.action, created.object) == ("AdminService/CreateKey", f"Key/{made.key.id}")
    assert json.loads(created.after)[f"Key/{made.key.id}"]["name"] == "app"
    old, new = f"Key/{made.key.id}", f"Key/{first.key.id}"
    assert rotated.object == f"{old}, {new}"
    before, after = json.loads(rotated.before), json.loads(rotated.after)
    assert ("expires_at" in before[old], "expires_at" in after[old]) == (False, True)
    assert (new in before, after[new]["name"]) == (False, "app")
    assert (repeated.object, repeated.outcome) == (old, "OK")
    assert first.secret not in str((rotated, repeated))


async def test_each_transaction_of_a_call_has_its_entry_and_a_later_failure_one_more(
    database: Database, guarded: Guarded
) -> None:
    request = admin_pb2.PutTenantRequest()
    draft = Draft(Caller(request_id="r-9"), "AdminService/PutTenant", ["Tenant/blue"], request)
    witnessed = WITNESS.set(draft)
    try:
        async with database.transaction() as conn:
            made = Tenant(name="blue", weight=1)
            made.created_at.GetCurrentTime()
            await tenants.create_tenant(conn, made)
        async with database.transaction() as conn:
            await tenants.change_tenant(conn, Tenant(name="blue", weight=2, version=1))
        async with database.transaction() as conn:
            await tenants.get_tenant(conn, "blue")
        await Journal(database).close(draft, "INTERNAL")
    finally:
        WITNESS.reset(witnessed)
    told = [one for one in await entries(guarded) if one.request_id == "r-9"]
    assert [one.outcome for one in told] == ["OK", "OK", "INTERNAL"]
    before, after = (json.loads(text)["Tenant/blue"] for text in (told[1].before, told[1].after))
    assert (told[0].before, before["weight"], after["weight"]) == ("", 1.0, 2.0)


async def test_looking_and_trying_leave_no_entry(guarded: Guarded) -> None:
    await guarded.local.admin("Apply", admin_pb2.ApplyRequest(manifest=DEMO, dry_run=True))
    await guarded.local.admin("ListRecipes", admin_pb2.ListRecipesRequest())
    await guarded.local.admin("Plan", admin_pb2.PlanRequest(manifest=DEMO))
    assert await entries(guarded) == []


async def test_refusals_are_told(guarded: Guarded) -> None:
    viewer = await guarded.operator("viewer")
    assert await refused(viewer, "StopDeployment", admin_pb2.StopDeploymentRequest(name="demo")) is (
        grpc.StatusCode.PERMISSION_DENIED
    )
    assert await refused(guarded.local, "StopDeployment", admin_pb2.StopDeploymentRequest(name="demo")) is (
        grpc.StatusCode.NOT_FOUND
    )
    assert await refused(As(guarded.channel, ""), "GetStatus", admin_pb2.GetStatusRequest()) is (
        grpc.StatusCode.UNAUTHENTICATED
    )
    # A refusal is entered right after it was given.
    async with asyncio.timeout(20):
        while len(told := await entries(guarded)) < 4:
            await asyncio.sleep(0.02)
    assert {(one.actor, one.action, one.object, one.outcome) for one in told[1:]} == {
        ("fleet-viewer", "AdminService/StopDeployment", "Deployment/demo", "PERMISSION_DENIED"),
        ("tester", "AdminService/StopDeployment", "Deployment/demo", "NOT_FOUND"),
        ("unknown", "AdminService/GetStatus", "", "UNAUTHENTICATED"),
    }


async def test_of_a_refused_manifest_only_the_digest_is_told(guarded: Guarded) -> None:
    viewer = await guarded.operator("viewer")
    recipe = DEMO + f"env: {{HF_TOKEN: {IN_ENV}}}\n"
    assert await refused(viewer, "Apply", admin_pb2.ApplyRequest(manifest=recipe)) is grpc.StatusCode.PERMISSION_DENIED
    # One that names a secret which is not stored is refused later on.
    unknown = admin_pb2.ApplyRequest(manifest=recipe + "secrets: {API_KEY: none}\n")
    assert await refused(guarded.local, "Apply", unknown) is grpc.StatusCode.NOT_FOUND
    async with asyncio.timeout(20):
        while len(told := [one for one in await entries(guarded) if one.action == "AdminService/Apply"]) < 2:
            await asyncio.sleep(0.02)
    assert all("sha256:" in one.after for one in told)
    assert IN_ENV not in str(told)


async def test_strangers_do_not_fill_the_log(guarded: Guarded) -> None:
    for _ in range(journal.OF_STRANGERS[0] + 30):
        await refused(As(guarded.channel, ""), "GetStatus", admin_pb2.GetStatusRequest())
    # Nor can they keep those that are known out of it.
    viewer = await guarded.operator("viewer")
    await refused(viewer, "StopDeployment", admin_pb2.StopDeploymentRequest(name="demo"))
    async with asyncio.timeout(20):
        while "fleet-viewer" not in {one.actor for one in await entries(guarded, actor="fleet-viewer")}:
            await asyncio.sleep(0.02)
    told = await entries(guarded, limit=500)
    assert len([one for one in told if one.actor == "unknown"]) < journal.OF_STRANGERS[0] + 30


async def test_a_change_and_its_entry_are_one(guarded: Guarded, database: Database) -> None:
    async with database.transaction() as conn:
        await conn.execute(text("ALTER TABLE audit ADD CONSTRAINT full_log CHECK (sequence < 0) NOT VALID"))
    try:
        assert await refused(guarded.local, "Apply", admin_pb2.ApplyRequest(manifest=DEMO)) is grpc.StatusCode.INTERNAL
        listed = await guarded.local.admin("ListRecipes", admin_pb2.ListRecipesRequest())
        assert not listed.recipes
    finally:
        async with database.transaction() as conn:
            await conn.execute(text("ALTER TABLE audit DROP CONSTRAINT full_log"))


async def test_the_log_verifies_and_an_anchor_holds(guarded: Guarded, database: Database) -> None:
    for number in range(3):
        await guarded.local.admin(
            "Apply", admin_pb2.ApplyRequest(manifest=DEMO.replace("demo\n", f"demo{number}\n", 1))
        )
    anchored = await guarded.local.access("AnchorAudit", access_pb2.AnchorAuditRequest())
    request = access_pb2.VerifyAuditRequest(anchors=[anchored.anchor])
    verified = await guarded.local.access("VerifyAudit", request)
    assert verified.ok, verified.findings
    assert verified.entries == anchored.anchor.sequence == verified.head.sequence
    async with database.transaction() as conn:
        await conn.execute(text("ALTER TABLE audit DISABLE TRIGGER ALL"))
        await conn.execute(text("UPDATE audit SET actor = 'nobody' WHERE sequence = 2"))
        await conn.execute(text("ALTER TABLE audit ENABLE TRIGGER ALL"))
    verified = await guarded.local.access("VerifyAudit", request)
    assert list(verified.findings) == ["entry 2 was edited"]


async def test_no_secret_is_in_the_log_or_in_any_answer(guarded: Guarded, database: Database) -> None:
    admin = await guarded.operator("admin")
    answers = [await admin.access("PutSecret", access_pb2.PutSecretRequest(name="hub", value=SENTINEL))]
    recipe = DEMO + f"secrets: {{API_KEY: hub}}\nenv: {{HF_TOKEN: {IN_ENV}}}\n"
    answers.append(await admin.admin("Apply", admin_pb2.ApplyRequest(manifest=recipe)))
    made = await admin.admin("CreateKey", admin_pb2.CreateKeyRequest(name="k"))
    answers.append(await admin.access("ListSecrets", access_pb2.ListSecretsRequest()))
    answers.append(await admin.admin("GetRecipe", admin_pb2.GetRecipeRequest(name="demo")))
    answers.append(await admin.admin("ExportState", admin_pb2.ExportStateRequest()))
    answers += await entries(guarded, limit=500)
    assert not [answer for answer in answers if isinstance(answer, AuditEntry) and IN_ENV in str(answer)]
    hidden = [SENTINEL, made.secret, admin.token]
    for answer in answers:
        assert not [secret for secret in hidden if secret in str(answer)]
    async with database.transaction() as conn:
        tables = (
            (await conn.execute(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"))).scalars().all()
        )
        for table in tables:
            query = text(f'SELECT "{table}"::text FROM "{table}"')  # noqa: S608 - the database's own names
            rows = str((await conn.execute(query)).scalars().all())
            assert not [secret for secret in hidden if secret in rows or secret.encode().hex() in rows], table


async def test_a_secret_that_is_named_stays_until_it_is_forced(guarded: Guarded) -> None:
    await guarded.local.access("PutSecret", access_pb2.PutSecretRequest(name="hub", value=SENTINEL))
    await guarded.local.admin("Apply", admin_pb2.ApplyRequest(manifest=DEMO + "secrets: {API_KEY: hub}\n"))
    with pytest.raises(grpc.aio.AioRpcError, match="Recipe/demo"):
        await guarded.local.access("RemoveSecret", access_pb2.RemoveSecretRequest(name="hub"))
    await guarded.local.access("RemoveSecret", access_pb2.RemoveSecretRequest(name="hub", force=True))
    assert (
        await refused(guarded.local, "Apply", admin_pb2.ApplyRequest(manifest=DEMO + "secrets: {OTHER: hub}\n"))
        is grpc.StatusCode.NOT_FOUND
    )
