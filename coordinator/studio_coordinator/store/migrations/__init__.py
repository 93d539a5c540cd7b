"""Alembic migrations, shipped in the wheel: ``env.py``, ``versions/`` and how they are run.

Revisions are numbered, ``0001`` onwards, in one line. Expand and contract: a release's code must run on the schema of the next
one, so a new column has a default or may be NULL, and an old one goes only when no supported release writes it. Each migration
writes into ``schema_info`` the oldest revision whose code can work with what it leaves behind; so older code that meets a newer
schema knows whether it may go on.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, text
from studio_runtime.errors import SafetyError

if TYPE_CHECKING:
    from alembic.config import Config

# Held while the schema is changed; two coordinators that start at once wait for one another.
MIGRATION_LOCK = 7_700


class SchemaTooNewError(SafetyError):
    """The database was upgraded by a newer release that this one cannot work with."""

    reason = "schema_too_new"


def upgrade(connection: Connection) -> str:
    """Upgrade to the newest revision inside the caller's transaction; returns the revision that the schema then has."""
    # Changing a large table may take longer than any statement otherwise may.
    connection.execute(text("SET LOCAL statement_timeout = 0"))
    connection.execute(text("SET LOCAL lock_timeout = '60s'"))
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
    found, newest = current_revision(connection), code_revision()
    if found > newest:
        oldest = connection.execute(text("SELECT oldest_code_revision FROM schema_info")).scalar_one()
        if newest < oldest:
            raise SchemaTooNewError(
                f"the database has schema {found}, which needs code of schema {oldest} or newer; this code is of schema {newest}",
                "Start the newer release, or restore the backup that was made before the upgrade.",
            )
        return found
    if found < newest:
        # 10 MB and half a second, which a start on a schema that is up to date is spared.
        from alembic import command  # noqa: PLC0415 - see above

        command.upgrade(configuration(connection), "head")
    return newest


def downgrade(connection: Connection) -> None:
    """Undo all migrations inside the caller's transaction. All data is lost."""
    from alembic import command  # noqa: PLC0415 - as in upgrade

    command.downgrade(configuration(connection), "base")


def current_revision(connection: Connection) -> str:
    """The revision of the schema as it is; empty before the first upgrade."""
    there = connection.execute(text("SELECT to_regclass('alembic_version') IS NOT NULL")).scalar_one()
    return (connection.execute(text("SELECT version_num FROM alembic_version")).scalar() or "") if there else ""


def code_revision() -> str:
    """The newest revision that this code knows."""
    # Files are named by their revisions, which count up.
    revisions = [file.name.partition("_")[0] for file in (Path(__file__).parent / "versions").glob("[0-9]*.py")]
    if not revisions:
        raise RuntimeError("no migrations were shipped with this installation")
    return max(revisions)


def configuration(connection: Connection, more: Path | None = None) -> "Config":
    """Alembic's settings, without a file: ``env.py`` uses ``connection``. ``more`` is a folder of migrations after these."""
    from alembic.config import Config  # noqa: PLC0415 - as in upgrade

    config = Config()
    here = Path(__file__).parent
    # Percent signs have a meaning in this configuration.
    config.set_main_option("script_location", str(here).replace("%", "%%"))
    if more is not None:
        config.set_main_option("path_separator", "os")
        folders = os.pathsep.join([str(here / "versions"), str(more)])
        config.set_main_option("version_locations", folders.replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
