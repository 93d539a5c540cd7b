"""Secrets are sealed where they lie, named by who uses them, and sealed anew when the master key changes."""

import pytest
from builders import NOW, a_deployment_spec, a_provider, a_recipe
from sqlalchemy import text
from studio.v1.access_service_pb2 import Secret
from studio.v1.recipe_pb2 import ModelSource
from studio_coordinator.sealing import KEY_BYTES, MasterKey, Sealer, SealingError
from studio_coordinator.store import deployments, master_key, providers, recipes, secrets
from studio_coordinator.store.database import Database
from studio_runtime.errors import ConflictError, NotFoundError

OLD, NEW = MasterKey(b"o" * KEY_BYTES), MasterKey(b"n" * KEY_BYTES)
SEALER = Sealer((OLD,))
VALUE = "a value that nobody may see"


def a_secret(name: str = "hub", **fields: str) -> Secret:
    return Secret(name=name, **({"actor": "ann"} | fields))


async def test_a_value_is_sealed_in_the_database_and_opens_again(database: Database):
    async with database.transaction() as conn:
        await secrets.put_secret(conn, SEALER, a_secret(), VALUE, NOW)
        raw = bytes((await conn.execute(text("SELECT sealed FROM secrets"))).scalar_one())
        assert VALUE.encode() not in raw
        assert await secrets.open_values(conn, SEALER, ["hub", "other"]) == {"hub": VALUE}


async def test_a_row_that_is_copied_to_another_name_does_not_open(database: Database):
    async with database.transaction() as conn:
        await secrets.put_secret(conn, SEALER, a_secret("one"), VALUE, NOW)
        await secrets.put_secret(conn, SEALER, a_secret("two"), "another", NOW)
        await conn.execute(
            text("UPDATE secrets SET sealed = (SELECT sealed FROM secrets WHERE name = 'one') WHERE name = 'two'")
        )
        with pytest.raises(SealingError):
            await secrets.open_values(conn, SEALER, ["two"])


async def test_a_secret_that_is_put_again_has_the_new_value(database: Database):
    async with database.transaction() as conn:
        await secrets.put_secret(conn, SEALER, a_secret(), VALUE, NOW)
        stored = await secrets.put_secret(conn, SEALER, a_secret(actor="bob"), "newer", NOW)
        assert stored.actor == "bob"
        assert await secrets.open_values(conn, SEALER, ["hub"]) == {"hub": "newer"}


async def test_a_name_is_one_tenants(database: Database):
    async with database.transaction() as conn:
        await secrets.put_secret(conn, SEALER, a_secret(tenant="blue"), VALUE, NOW)
        with pytest.raises(ConflictError, match="another tenant"):
            await secrets.put_secret(conn, SEALER, a_secret(tenant="red"), "mine", NOW)


async def test_what_is_named_is_not_removed(database: Database):
    recipe = a_recipe("tiny", model=ModelSource(source="hf://o/m", token_secret="hub"))
    recipe.secrets["API_KEY"] = "engine"
    async with database.transaction() as conn:
        for name in ("hub", "engine", "provider", "free"):
            await secrets.put_secret(conn, SEALER, a_secret(name), VALUE, NOW)
        await recipes.apply_recipe(conn, recipe, "ann", NOW)
        await providers.add_provider(conn, a_provider(api_key_env="", api_key_secret="provider"), "ann", NOW)
        used = {one.name: list(one.used_by) for one in await secrets.list_secrets(conn)}
        assert used == {"hub": ["Recipe/tiny"], "engine": ["Recipe/tiny"], "provider": ["Provider/gpt-5"], "free": []}
        with pytest.raises(ConflictError, match="Recipe/tiny"):
            await secrets.remove_secret(conn, "hub", force=False)
        await secrets.remove_secret(conn, "hub", force=True)
        await secrets.remove_secret(conn, "free", force=False)
        with pytest.raises(NotFoundError):
            await secrets.remove_secret(conn, "free", force=False)


async def test_an_older_revision_counts_while_a_deployment_is_pinned_to_it(database: Database):
    first = a_recipe("tiny")
    first.secrets["API_KEY"] = "engine"
    async with database.transaction() as conn:
        await secrets.put_secret(conn, SEALER, a_secret("engine"), VALUE, NOW)
        await recipes.apply_recipe(conn, first, "ann", NOW)
        await deployments.apply_deployment(conn, a_deployment_spec("chat", recipe_revision=1), "ann", NOW)
        await recipes.apply_recipe(conn, a_recipe("tiny"), "ann", NOW)
        assert [list(one.used_by) for one in await secrets.list_secrets(conn)] == [["Recipe/tiny"]]
        await deployments.apply_deployment(conn, a_deployment_spec("chat"), "ann", NOW)
        assert [list(one.used_by) for one in await secrets.list_secrets(conn)] == [[]]


async def test_a_new_master_key_seals_everything_anew(database: Database):
    both, new = Sealer((NEW, OLD)), Sealer((NEW,))
    async with database.transaction() as conn:
        await secrets.put_secret(conn, SEALER, a_secret(), VALUE, NOW)
        assert await secrets.seal_anew(conn, both) == 1
        assert await secrets.seal_anew(conn, both) == 0
        assert await secrets.open_values(conn, new, ["hub"]) == {"hub": VALUE}
        with pytest.raises(SealingError):
            await secrets.open_values(conn, SEALER, ["hub"])


async def test_a_coordinator_with_another_master_key_is_told_from_one_that_follows(database: Database):
    old, both, new = SEALER, Sealer((NEW, OLD)), Sealer((NEW,))
    async with database.transaction() as conn:

        async def agrees(sealer: Sealer) -> bool:
            return await master_key.agree(conn, sealer.check_value, sealer.known_check_values)

        assert await agrees(old)
        assert not await agrees(new)
        assert await agrees(both)
        assert await agrees(new)
        assert not await agrees(old)
