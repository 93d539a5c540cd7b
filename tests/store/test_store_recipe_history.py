"""Revisions over time: listed, made the newest again, and brought in from elsewhere under their numbers."""

import asyncio

import pytest
from builders import NOW, a_deployment_spec, a_recipe
from studio.v1.admin_service_pb2 import Applied
from studio_coordinator.store import deployments, recipes
from studio_coordinator.store.database import Database
from studio_coordinator.store.desired_state import desired_state
from studio_runtime.errors import ConflictError, NotFoundError


async def apply(database: Database, *lengths: int, name: str = "tiny") -> None:
    for length in lengths:
        async with database.transaction() as conn:
            await recipes.apply_recipe(conn, a_recipe(name, max_model_len=length), "ann", NOW)


async def put(database: Database, revision: int, length: int) -> Applied:
    async with database.transaction() as conn:
        return await recipes.put_revision(conn, a_recipe(max_model_len=length), revision, "bob", NOW)


async def rollback(database: Database, revision: int = 0, expected: int = 0) -> Applied:
    async with database.transaction() as conn:
        return await recipes.rollback_recipe(conn, "tiny", revision, "bob", NOW, expected)


async def history(database: Database) -> list[tuple[int, int]]:
    async with database.transaction() as conn:
        listed = await recipes.list_revisions(conn, "tiny")
    return [(one.revision, one.recipe.args.max_model_len.value) for one in listed]


async def test_the_history_is_newest_first(database: Database):
    await apply(database, 10, 20, 30)
    assert await history(database) == [(3, 30), (2, 20), (1, 10)]
    async with database.transaction() as conn:
        with pytest.raises(NotFoundError):
            await recipes.list_revisions(conn, "tin")


async def test_a_rollback_is_a_new_revision_of_the_one_before(database: Database):
    await apply(database, 10, 20, 30)
    applied = await rollback(database)
    assert (applied.outcome, applied.revision) == (Applied.OUTCOME_CHANGED, 4)
    assert list(applied.changes) == ["args.max_model_len: 30 → 20"]
    assert (await rollback(database, revision=1)).revision == 5
    assert await history(database) == [(5, 10), (4, 20), (3, 30), (2, 20), (1, 10)]


async def test_a_rollback_to_what_is_changes_nothing(database: Database):
    await apply(database, 10, 20)
    assert (await rollback(database, revision=2)).outcome == Applied.OUTCOME_UNCHANGED


async def test_the_first_revision_has_none_before_it(database: Database):
    await apply(database, 10)
    with pytest.raises(NotFoundError, match="no revision before r1"):
        await rollback(database)
    with pytest.raises(NotFoundError, match="no revision 9"):
        await rollback(database, revision=9)


async def test_a_stale_rollback_is_refused_with_what_changed(database: Database):
    await apply(database, 10, 20, 30)
    with pytest.raises(ConflictError, match=r"at revision 3 .* changed since: args.max_model_len: 20 → 30"):
        await rollback(database, expected=2)
    assert len(await history(database)) == 3


async def test_two_rollbacks_at_once_are_one_or_are_refused(database: Database):
    await apply(database, 10, 20)
    done = await asyncio.gather(*(rollback(database) for _ in range(4)), return_exceptions=True)
    assert all(isinstance(one, Applied | ConflictError) for one in done)
    numbers = [number for number, _ in await history(database)]
    assert numbers == sorted(range(1, len(numbers) + 1), reverse=True)


async def test_a_number_from_elsewhere_is_kept_and_the_next_one_follows_it(database: Database):
    assert (await put(database, 7, 70)).outcome == Applied.OUTCOME_CREATED
    await apply(database, 80)
    assert await history(database) == [(8, 80), (7, 70)]
    assert (await put(database, 7, 70)).outcome == Applied.OUTCOME_UNCHANGED
    assert (await put(database, 3, 30)).outcome == Applied.OUTCOME_CREATED
    assert await history(database) == [(8, 80), (7, 70), (3, 30)]


async def test_a_number_means_one_text_for_ever(database: Database):
    await apply(database, 10, 20)
    with pytest.raises(ConflictError, match="another r1 already"):
        await put(database, 1, 99)
    assert await history(database) == [(2, 20), (1, 10)]


async def test_a_deleted_recipe_comes_back_under_its_number(database: Database):
    await apply(database, 10, 20)
    async with database.transaction() as conn:
        await recipes.delete_recipe(conn, "tiny")
    assert (await put(database, 2, 20)).outcome == Applied.OUTCOME_CREATED
    assert await history(database) == [(2, 20), (1, 10)]


async def test_an_export_holds_what_is_pinned_and_not_what_is_being_deleted(database: Database):
    await apply(database, 10, 20, 30)
    async with database.transaction() as conn:
        await deployments.apply_deployment(conn, a_deployment_spec("a", recipe_revision=2), "ann", NOW)
        await deployments.apply_deployment(conn, a_deployment_spec("b", recipe_revision=1), "ann", NOW)
        await deployments.delete_deployment(conn, "b", "ann", NOW)
    async with database.transaction() as conn:
        state = await desired_state(conn)
    assert [one.revision for one in state.newest] == [3]
    assert [one.revision for one in state.pinned] == [2]
    assert [one.name for one in state.deployments] == ["a"]


async def test_an_export_is_of_one_moment(database: Database):
    await apply(database, 10)
    async with database.transaction() as conn:
        before = await desired_state(conn)
        await apply(database, 20)
        assert await recipes.list_recipes(conn) == before.newest
