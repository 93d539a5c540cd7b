"""Do the migrations lead to the tables that the code has, and back to nothing, and can the code before them go on?"""

import importlib
import pkgutil

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, inspect
from sqlalchemy.ext.asyncio import create_async_engine

from studio_coordinator import store
from studio_coordinator.store.metadata import METADATA
from studio_coordinator.store.migrations import downgrade, upgrade
from studio_coordinator.store.migrations.compatibility import incompatibilities, run_steps

# Alembic's own table stays, empty.
BOOKKEEPING = "alembic_version"


async def migration_problems(url: str) -> list[str]:
    """Upgrade the empty database ``url``, compare, downgrade and upgrade again; what was wrong, one line each."""
    engine = create_async_engine(url)
    try:
        async with engine.begin() as conn:
            await conn.run_sync(upgrade)
            problems = await conn.run_sync(differences)
        async with engine.begin() as conn:
            await conn.run_sync(downgrade)
            left = await conn.run_sync(lambda connection: inspect(connection).get_table_names())
            problems += [f"the downgrade leaves the table {name}" for name in left if name != BOOKKEEPING]
            problems += incompatibilities(await conn.run_sync(run_steps))
            problems += await conn.run_sync(differences)
    finally:
        await engine.dispose()
    return problems


def differences(connection: Connection) -> list[str]:
    """How the database differs from the tables that the modules of the store declare."""
    for module in pkgutil.iter_modules(store.__path__, f"{store.__name__}."):
        importlib.import_module(module.name)
    context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
    return [repr(difference) for difference in compare_metadata(context, METADATA)]
