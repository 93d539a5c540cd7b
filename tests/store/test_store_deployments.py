import asyncio
from datetime import timedelta

import pytest
from builders import NOW, a_deployment_spec, a_provider, a_recipe, a_replica
from studio.v1.admin_service_pb2 import Applied
from studio.v1.deployment_pb2 import Deployment, DeploymentSpec, ReplicaRange
from studio_coordinator.store import deployments, providers, recipes, replicas
from studio_coordinator.store.database import Database
from studio_runtime.errors import ConflictError, InvalidError, NotFoundError


@pytest.fixture(autouse=True)
async def recipe(database: Database) -> None:
    async with database.transaction() as conn:
        await recipes.apply_recipe(conn, a_recipe(), "ann", NOW)


async def apply(database: Database, spec: DeploymentSpec, actor: str = "ann", **options: object) -> Applied:
    async with database.transaction() as conn:
        return await deployments.apply_deployment(conn, spec, actor, NOW, **options)


async def get(database: Database, name: str = "chat") -> Deployment:
    async with database.transaction() as conn:
        return await deployments.get_deployment(conn, name)


async def test_a_deployment_comes_back_as_it_was_applied(database: Database):
    spec = a_deployment_spec(aliases=["gpt-4o"], replicas=ReplicaRange(min=0, max=3), priority=100)
    spec.idle.sleep_after.FromSeconds(600)
    assert await apply(database, spec) == Applied(
        kind="Deployment", name="chat", outcome=Applied.OUTCOME_CREATED, version=1
    )
    stored = await get(database)
    assert stored.spec == spec
    assert (stored.version, stored.actor, stored.stopped, stored.target_revision) == (1, "ann", False, 1)
    assert stored.created_at.ToDatetime() == stored.updated_at.ToDatetime() == NOW.replace(tzinfo=None)


async def test_the_same_spec_again_changes_nothing(database: Database):
    await apply(database, a_deployment_spec())
    again = await apply(database, a_deployment_spec(), "bob")
    assert (again.outcome, again.version) == (Applied.OUTCOME_UNCHANGED, 1)
    assert (await get(database)).actor == "ann"


async def test_a_change_raises_the_version_and_says_what_changed(database: Database):
    await apply(database, a_deployment_spec(aliases=["a"]))
    changed = await apply(database, a_deployment_spec(aliases=["b"], priority=5), "bob")
    assert (changed.outcome, changed.version) == (Applied.OUTCOME_CHANGED, 2)
    assert list(changed.changes) == ["aliases: [a] → [b]", "priority: unset → 5"]
    stored = await get(database)
    assert (stored.version, stored.actor) == (2, "bob")


async def test_the_target_is_the_newest_revision_or_the_pinned_one(database: Database):
    await apply(database, a_deployment_spec("newest"))
    await apply(database, a_deployment_spec("pinned", recipe_revision=1))
    async with database.transaction() as conn:
        await recipes.apply_recipe(conn, a_recipe(max_model_len=9), "ann", NOW)
        listed = await deployments.list_deployments(conn)
    assert [(item.name, item.target_revision) for item in listed] == [("newest", 2), ("pinned", 1)]


async def test_the_recipe_must_exist(database: Database):
    with pytest.raises(NotFoundError, match="no recipe tini") as caught:
        await apply(database, a_deployment_spec(recipe="tini"))
    assert caught.value.hint == "Did you mean tiny?"
    with pytest.raises(NotFoundError, match="no revision 2"):
        await apply(database, a_deployment_spec(recipe_revision=2))


async def test_a_public_name_belongs_to_one(database: Database):
    await apply(database, a_deployment_spec("chat", aliases=["gpt-4o"]))
    async with database.transaction() as conn:
        await providers.add_provider(conn, a_provider("gpt-5"), "ann", NOW)
    for spec, owner in (
        (a_deployment_spec("gpt-4o"), "deployment chat has it as an alias"),
        (a_deployment_spec("other", aliases=["chat"]), "deployment chat has it"),
        (a_deployment_spec("other", aliases=["free", "gpt-5"]), "provider model gpt-5 has it"),
        (a_deployment_spec("gpt-5"), "provider model gpt-5 has it"),
    ):
        with pytest.raises(ConflictError, match=owner):
            await apply(database, spec)
    with pytest.raises(ConflictError, match="deployment chat has it as an alias"):
        async with database.transaction() as conn:
            await providers.add_provider(conn, a_provider("gpt-4o"), "ann", NOW)
    async with database.transaction() as conn:
        assert [item.name for item in await deployments.list_deployments(conn)] == ["chat"]


async def test_an_alias_that_was_given_up_is_free(database: Database):
    await apply(database, a_deployment_spec("chat", aliases=["gpt-4o"]))
    await apply(database, a_deployment_spec("chat"))
    assert (await apply(database, a_deployment_spec("gpt-4o"))).outcome == Applied.OUTCOME_CREATED


async def test_of_two_who_claim_a_name_at_once_one_gets_it(database: Database):
    specs = [a_deployment_spec(f"d{n}", aliases=["shared", "also"]) for n in range(5)]
    answers = await asyncio.gather(*(apply(database, spec) for spec in specs), return_exceptions=True)
    assert sum(isinstance(answer, Applied) for answer in answers) == 1
    assert sum(isinstance(answer, ConflictError) for answer in answers) == 4


async def test_a_stale_edit_is_refused_with_what_changed(database: Database):
    await apply(database, a_deployment_spec(replicas=ReplicaRange(max=1)))
    await apply(database, a_deployment_spec(replicas=ReplicaRange(max=2)), "bob")
    async with database.transaction() as conn:
        await deployments.set_stopped(conn, "chat", True, "carl", NOW)
    expected = r"at version 3 \(by carl\), not 1; changed since: replicas.max: 1 → 2; stopped"
    with pytest.raises(ConflictError, match=expected):
        await apply(database, a_deployment_spec(), expected_version=1)
    async with database.transaction() as conn:
        for refused in (
            deployments.set_stopped(conn, "chat", False, "ann", NOW, expected_version=1),
            deployments.scale(conn, "chat", 2, "ann", NOW, expected_version=1),
            deployments.delete_deployment(conn, "chat", "ann", NOW, expected_version=1),
        ):
            with pytest.raises(ConflictError, match=expected):
                await refused
    assert (await apply(database, a_deployment_spec(), expected_version=3)).version == 4


async def test_an_edit_of_what_was_deleted_meanwhile_is_refused(database: Database):
    with pytest.raises(ConflictError, match="deployment chat was deleted since version 3"):
        await apply(database, a_deployment_spec(), expected_version=3)
    async with database.transaction() as conn:
        assert await deployments.list_deployments(conn) == []


async def test_of_many_edits_of_one_version_one_is_accepted(database: Database):
    await apply(database, a_deployment_spec())
    edits = (apply(database, a_deployment_spec(priority=n), expected_version=1) for n in range(1, 7))
    answers = await asyncio.gather(*edits, return_exceptions=True)
    assert sum(isinstance(answer, Applied) for answer in answers) == 1
    assert sum(isinstance(answer, ConflictError) for answer in answers) == 5
    assert (await get(database)).version == 2


async def test_create_only_leaves_a_deployment_that_exists(database: Database):
    await apply(database, a_deployment_spec())
    kept = await apply(database, a_deployment_spec(priority=9), create_only=True)
    assert (kept.outcome, kept.version) == (Applied.OUTCOME_UNCHANGED, 1)


async def test_stop_and_start(database: Database):
    await apply(database, a_deployment_spec())
    async with database.transaction() as conn:
        stopped = await deployments.set_stopped(conn, "chat", True, "bob", NOW + timedelta(seconds=1))
        again = await deployments.set_stopped(conn, "chat", True, "carl", NOW)
        started = await deployments.set_stopped(conn, "chat", False, "bob", NOW)
    assert (stopped.stopped, stopped.version, stopped.actor) == (True, 2, "bob")
    assert again == stopped
    assert (started.stopped, started.version, started.tries) == (False, 3, stopped.tries + 1)


async def test_starting_what_runs_has_replicas_that_gave_up_tried_anew(database: Database):
    await apply(database, a_deployment_spec())
    async with database.transaction() as conn:
        assert (await deployments.set_stopped(conn, "chat", False, "bob", NOW)).tries == 1


async def test_scale_sets_both_ends_and_zero_stops(database: Database):
    await apply(database, a_deployment_spec(replicas=ReplicaRange(min=1, max=4)))
    async with database.transaction() as conn:
        scaled = await deployments.scale(conn, "chat", 2, "bob", NOW)
        same = await deployments.scale(conn, "chat", 2, "bob", NOW)
        stopped = await deployments.scale(conn, "chat", 0, "bob", NOW)
        started = await deployments.scale(conn, "chat", 2, "bob", NOW)
    assert (scaled.spec.replicas.min, scaled.spec.replicas.max, scaled.version) == (2, 2, 2)
    assert same == scaled
    assert (stopped.stopped, stopped.spec, stopped.version) == (True, scaled.spec, 3)
    assert (started.stopped, started.spec, started.version) == (False, scaled.spec, 4)


@pytest.mark.parametrize("replicas", [-1, 1_001])
async def test_scale_has_bounds(database: Database, replicas: int):
    await apply(database, a_deployment_spec())
    async with database.transaction() as conn:
        with pytest.raises(InvalidError, match=r"not between 0 and 1,000"):
            await deployments.scale(conn, "chat", replicas, "bob", NOW)


async def test_a_deleted_deployment_stays_until_it_is_purged(database: Database):
    await apply(database, a_deployment_spec(aliases=["gpt-4o"]))
    async with database.transaction() as conn:
        await replicas.insert_replica(conn, a_replica("chat-1"))
        await deployments.delete_deployment(conn, "chat", "bob", NOW)
        [marked] = await deployments.list_deployments(conn)
        assert (marked.stopped, marked.state, marked.actor) == (True, Deployment.STATE_STOPPING, "bob")
        with pytest.raises(ConflictError, match="being deleted"):
            await deployments.delete_deployment(conn, "chat", "bob", NOW)
    with pytest.raises(ConflictError, match="being deleted"):
        await apply(database, a_deployment_spec())
    with pytest.raises(ConflictError, match="another change came first"):
        async with database.transaction() as conn:
            await deployments.purge_deployment(conn, "chat")
    async with database.transaction() as conn:
        await replicas.delete_replica(conn, "chat-1")
        await deployments.purge_deployment(conn, "chat")
        assert await deployments.list_deployments(conn) == []
    assert (await apply(database, a_deployment_spec("gpt-4o", aliases=["chat"]))).outcome == Applied.OUTCOME_CREATED


async def test_a_deployment_that_is_not_marked_is_not_purged(database: Database):
    await apply(database, a_deployment_spec(aliases=["gpt-4o"]))
    async with database.transaction() as conn:
        await deployments.purge_deployment(conn, "chat")
    assert (await get(database)).name == "chat"
    with pytest.raises(ConflictError, match="chat has it"):
        await apply(database, a_deployment_spec("gpt-4o"))


async def test_an_unknown_deployment_is_not_found_and_close_names_are_offered(database: Database):
    await apply(database, a_deployment_spec("chat"))
    async with database.transaction() as conn:
        assert await deployments.list_deployments(conn, "chta") == []
        for refused in (
            deployments.get_deployment(conn, "chta"),
            deployments.set_stopped(conn, "chta", True, "ann", NOW),
            deployments.scale(conn, "chta", 1, "ann", NOW),
            deployments.delete_deployment(conn, "chta", "ann", NOW),
        ):
            with pytest.raises(NotFoundError, match="no deployment chta") as caught:
                await refused
            assert caught.value.hint == "Did you mean chat?"


async def test_the_trace_of_the_last_change_is_kept(database: Database):
    await apply(database, a_deployment_spec("chat"), traceparent="00-1-2-01")
    await apply(database, a_deployment_spec("untraced"))
    async with database.transaction() as conn:
        assert (await deployments.list_with_traceparents(conn))[1] == {"chat": "00-1-2-01"}


async def test_a_recipe_cannot_go_while_a_deployment_of_it_is_applied(database: Database):
    async def delete() -> None:
        async with database.transaction() as conn:
            await recipes.delete_recipe(conn, "tiny")

    answers = await asyncio.gather(apply(database, a_deployment_spec()), delete(), return_exceptions=True)
    # Whoever came first, no deployment is left without its recipe.
    assert sum(isinstance(answer, ConflictError | NotFoundError) for answer in answers) == 1
