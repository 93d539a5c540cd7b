import asyncio

import pytest
from builders import NOW, a_deployment_spec, a_recipe
from studio.v1.admin_service_pb2 import Applied
from studio.v1.recipe_pb2 import Recipe
from studio_coordinator.store import deployments, recipes
from studio_coordinator.store.database import Database
from studio_runtime.errors import ConflictError, NotFoundError


async def apply(database: Database, recipe: Recipe, **options: object) -> Applied:
    async with database.transaction() as conn:
        return await recipes.apply_recipe(conn, recipe, "ann", NOW, **options)


async def test_a_recipe_comes_back_as_it_was_applied(database: Database):
    recipe = a_recipe(max_model_len=4096, env={"A": "1"}, labels={"team": "x"}, description="grün 🐉")
    recipe.extra_args["rope"].struct_value["factor"] = 4
    recipe.args.kv_cache_memory_bytes = 2**40
    applied = await apply(database, recipe)
    assert applied == Applied(kind="Recipe", name="tiny", outcome=Applied.OUTCOME_CREATED, revision=1)
    async with database.transaction() as conn:
        stored = await recipes.get_recipe(conn, "tiny")
    assert stored.recipe == recipe
    assert (stored.revision, stored.actor, stored.created_at.ToDatetime()) == (1, "ann", NOW.replace(tzinfo=None))


async def test_the_same_recipe_again_makes_no_revision(database: Database):
    await apply(database, a_recipe(env={"A": "1", "B": "2"}))
    again = await apply(database, a_recipe(env={"B": "2", "A": "1"}))
    assert (again.outcome, again.revision) == (Applied.OUTCOME_UNCHANGED, 1)


async def test_a_change_makes_a_revision_and_says_what_changed(database: Database):
    await apply(database, a_recipe(max_model_len=1024, env={"TOKEN": "secret-1", "OLD": "x"}))
    changed = await apply(
        database, a_recipe(max_model_len=2048, env={"TOKEN": "secret-2", "NEW": "y"}, preset="low-latency")
    )
    assert (changed.outcome, changed.revision) == (Applied.OUTCOME_CHANGED, 2)
    assert list(changed.changes) == [
        "args.max_model_len: 1024 → 2048",
        "env.NEW: set",
        "env.OLD: removed",
        "env.TOKEN: changed",
        "preset: unset → low-latency",
    ]
    async with database.transaction() as conn:
        assert (await recipes.get_recipe(conn, "tiny", 1)).recipe.args.max_model_len.value == 1024
        both = await recipes.revisions(conn, [("tiny", 2), ("tiny", 1), ("tiny", 1), ("tiny", 3), ("other", 1)])
    assert {key: recipe.args.max_model_len.value for key, recipe in both.items()} == {
        ("tiny", 1): 1024,
        ("tiny", 2): 2048,
    }


async def test_a_change_back_is_a_new_revision(database: Database):
    revisions = [(await apply(database, a_recipe(max_model_len=length))).revision for length in (1, 2, 1)]
    assert revisions == [1, 2, 3]


async def test_create_only_leaves_a_recipe_that_exists(database: Database):
    assert (await apply(database, a_recipe(), create_only=True)).outcome == Applied.OUTCOME_CREATED
    kept = await apply(database, a_recipe(max_model_len=5), create_only=True)
    assert (kept.outcome, kept.revision) == (Applied.OUTCOME_UNCHANGED, 1)


async def test_a_stale_edit_is_refused_with_what_changed(database: Database):
    for length in (1024, 2048):
        await apply(database, a_recipe(max_model_len=length))
    with pytest.raises(
        ConflictError, match=r"at revision 2 \(by ann\), not 1; changed since: args.max_model_len: 1024 → 2048"
    ):
        await apply(database, a_recipe(max_model_len=4096), expected_revision=1)
    assert (await apply(database, a_recipe(max_model_len=4096), expected_revision=2)).revision == 3


async def test_an_edit_of_what_was_deleted_meanwhile_is_refused(database: Database):
    await apply(database, a_recipe())
    async with database.transaction() as conn:
        await recipes.delete_recipe(conn, "tiny")
    with pytest.raises(ConflictError, match="recipe tiny was deleted since revision 1"):
        await apply(database, a_recipe(max_model_len=9), expected_revision=1)


async def test_an_unknown_recipe_is_not_found_and_close_names_are_offered(database: Database):
    await apply(database, a_recipe("qwen3-32b"))
    async with database.transaction() as conn:
        with pytest.raises(NotFoundError) as caught:
            await recipes.get_recipe(conn, "qwen3-23b")
        assert "qwen3-32b" in caught.value.hint
        with pytest.raises(NotFoundError, match="no revision 7") as caught:
            await recipes.get_recipe(conn, "qwen3-32b", 7)
        assert "1" in caught.value.hint


async def test_the_list_has_the_newest_revision_of_each(database: Database):
    for recipe in (a_recipe("b"), a_recipe("a"), a_recipe("b", max_model_len=9)):
        await apply(database, recipe)
    async with database.transaction() as conn:
        listed = await recipes.list_recipes(conn)
    assert [(item.recipe_name, item.revision) for item in listed] == [("a", 1), ("b", 2)]


async def test_a_recipe_in_use_cannot_be_deleted(database: Database):
    await apply(database, a_recipe())
    async with database.transaction() as conn:
        await deployments.apply_deployment(conn, a_deployment_spec("chat"), "ann", NOW)
    with pytest.raises(ConflictError, match="used by chat"):
        async with database.transaction() as conn:
            await recipes.delete_recipe(conn, "tiny")


async def test_a_deleted_recipe_is_gone_and_its_numbers_are_not_given_again(database: Database):
    await apply(database, a_recipe(max_model_len=1))
    async with database.transaction() as conn:
        await recipes.delete_recipe(conn, "tiny")
        assert await recipes.list_recipes(conn) == []
        with pytest.raises(NotFoundError):
            await recipes.get_recipe(conn, "tiny")
        with pytest.raises(NotFoundError):
            await recipes.get_recipe(conn, "tiny", 1)
        with pytest.raises(NotFoundError):
            await recipes.delete_recipe(conn, "tiny")
        assert list(await recipes.revisions(conn, [("tiny", 1)])) == [("tiny", 1)]
    back = await apply(database, a_recipe(max_model_len=1))
    assert (back.outcome, back.revision) == (Applied.OUTCOME_CREATED, 2)


async def test_the_same_recipe_applied_at_once_by_many_is_one_revision(database: Database):
    applied = await asyncio.gather(*(apply(database, a_recipe()) for _ in range(6)))
    assert [item.revision for item in applied] == [1] * 6
    assert sorted(item.outcome for item in applied) == [Applied.OUTCOME_CREATED, *[Applied.OUTCOME_UNCHANGED] * 5]


async def test_different_changes_at_once_get_different_revisions(database: Database):
    applied = await asyncio.gather(*(apply(database, a_recipe(max_model_len=length)) for length in range(1, 7)))
    assert sorted(item.revision for item in applied) == [1, 2, 3, 4, 5, 6]
