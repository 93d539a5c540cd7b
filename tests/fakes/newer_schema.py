"""The schema of a release that is not there yet: everything that an expanding migration may do, to every table.

Today's code is the release before it. ``STUDIO_TEST_NEWER_SCHEMA`` makes the store's tests run on it.
"""

import os
from pathlib import Path

from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from studio_coordinator.store.migrations import code_revision, configuration

VARIABLE = "STUDIO_TEST_NEWER_SCHEMA"
NEWER = "9000"
MIGRATION = '''
"""Every table gets two columns and an index, and there is one table more."""

import sqlalchemy as sa
from alembic import op

revision = "9000"
down_revision = "{previous}"


def upgrade() -> None:
    known = sa.MetaData()
    known.reflect(op.get_bind())
    # Those that refer to others after them: the order in which the store locks them.
    for table in known.sorted_tables:
        if table.name != "alembic_version":
            op.add_column(table.name, sa.Column("perhaps", sa.String(), nullable=True))
            op.add_column(table.name, sa.Column("surely", sa.Integer(), nullable=False, server_default="0"))
            op.create_index(f"{{table.name}}_surely_idx", table.name, ["surely"])
    op.create_table("novelties", sa.Column("id", sa.Integer(), primary_key=True))


def downgrade() -> None:
    raise NotImplementedError
'''


def write_migration(folder: Path, body: str = MIGRATION) -> Path:
    """The newer release's migrations, in a folder of their own."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "9000_newer.py").write_text(body.format(previous=code_revision()), encoding="utf-8")
    return folder


def upgrade_to_newer(connection: Connection, folder: Path) -> str:
    """What the newer release does to the database when it starts; returns the revision."""
    config = configuration(connection, folder)
    command.upgrade(config, "head")
    return ScriptDirectory.from_config(config).get_current_head() or ""


def wanted() -> bool:
    return VARIABLE in os.environ
