from builders import NOW, a_deployment_spec, a_recipe
from sqlalchemy import text
from studio.v1.host_pb2 import Host
from studio_coordinator.store import deployments, recipes
from studio_coordinator.store.columns import EnumName
from studio_coordinator.store.database import Database


async def test_what_a_newer_release_added_to_a_document_is_ignored(database: Database):
    async with database.transaction() as conn:
        await recipes.apply_recipe(conn, a_recipe(), "ann", NOW)
        await deployments.apply_deployment(conn, a_deployment_spec(priority=7), "ann", NOW)
        await conn.execute(text("""UPDATE deployments SET spec = spec || '{"from_the_future": [1]}'"""))
        assert (await deployments.get_deployment(conn, "chat")).spec == a_deployment_spec(priority=7)


async def test_documents_are_readable_in_psql(database: Database):
    async with database.transaction() as conn:
        await recipes.apply_recipe(conn, a_recipe(max_model_len=4096), "ann", NOW)
        query = text("SELECT recipe -> 'args' -> 'max_model_len' ->> 'value' FROM recipe_revisions")
        assert (await conn.execute(query)).scalar_one() == "4096"


def test_a_state_that_a_newer_release_wrote_is_unspecified():
    states = EnumName(Host.State.DESCRIPTOR, "STATE_")
    assert states.process_bind_param(Host.STATE_LOST, None) == "LOST"
    assert states.process_result_value("LOST", None) == Host.STATE_LOST
    assert states.process_result_value("FROM_THE_FUTURE", None) == Host.STATE_UNSPECIFIED


def test_a_state_that_a_newer_agent_says_is_written_as_unspecified():
    assert EnumName(Host.State.DESCRIPTOR, "STATE_").process_bind_param(99, None) == "UNSPECIFIED"
