import pytest
from builders import NOW, a_deployment_spec, a_provider, a_recipe
from studio.v1.admin_service_pb2 import Applied
from studio_coordinator.store import deployments, providers, recipes
from studio_coordinator.store.database import Database
from studio_runtime.errors import NotFoundError


async def test_provider_models_are_listed_by_name(database: Database):
    rows = [a_provider("gpt-5", api_base="https://proxy.example/v1"), a_provider("claude")]
    async with database.transaction() as conn:
        for row in rows:
            await providers.add_provider(conn, row, "ann", NOW)
        assert await providers.list_providers(conn) == [rows[1], rows[0]]


async def test_adding_a_name_again_replaces_it(database: Database):
    async with database.transaction() as conn:
        await providers.add_provider(conn, a_provider(), "ann", NOW)
        await providers.add_provider(conn, a_provider(api_key_env="OTHER_KEY"), "bob", NOW)
        assert await providers.list_providers(conn) == [a_provider(api_key_env="OTHER_KEY")]


async def test_a_removed_name_is_free(database: Database):
    async with database.transaction() as conn:
        await recipes.apply_recipe(conn, a_recipe(), "ann", NOW)
        await providers.add_provider(conn, a_provider("gpt-5"), "ann", NOW)
        await providers.remove_provider(conn, "gpt-5")
        assert await providers.list_providers(conn) == []
        applied = await deployments.apply_deployment(conn, a_deployment_spec("gpt-5"), "ann", NOW)
    assert applied.outcome == Applied.OUTCOME_CREATED


async def test_an_unknown_model_cannot_be_removed(database: Database):
    async with database.transaction() as conn:
        await providers.add_provider(conn, a_provider("gpt-5"), "ann", NOW)
        with pytest.raises(NotFoundError) as caught:
            await providers.remove_provider(conn, "gpt5")
    assert caught.value.hint == "Did you mean gpt-5?"
