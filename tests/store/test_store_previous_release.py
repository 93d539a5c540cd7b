"""Code of the release before on the schema of the next one, while it is upgraded and after.

No release has been made, so the release before is today's code, and the next one is a migration that the test writes: it adds
what an expanding migration may add, to every table. Once there is a release, its own tests can be run the same way.
"""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from builders import NOW, a_deployment_spec, a_recipe, an_event
from fakes import newer_schema
from sqlalchemy.ext.asyncio import create_async_engine
from studio_coordinator.store import deployments, events, recipes
from studio_coordinator.store.database import Database
from studio_coordinator.store.migrations import code_revision
from studio_coordinator.store.migrations.compatibility import Step, incompatibilities, narrowed, run_steps
from studio_runtime.errors import UnavailableError

HERE = Path(__file__).parent
# All aggregates of the store; what is about migrations themselves is left out.
ABOUT_MIGRATIONS = ("test_store_database.py", "test_store_previous_release.py", "test_store_columns.py")
SUITE = sorted(file.name for file in HERE.glob("test_store_*.py") if file.name not in ABOUT_MIGRATIONS)


async def test_every_migration_leaves_the_release_before_able_to_run(empty_database_url: str):
    engine = create_async_engine(empty_database_url)
    async with engine.begin() as conn:
        steps = await conn.run_sync(run_steps)
    await engine.dispose()
    assert [step.revision for step in steps][-1] == code_revision()
    assert any("CREATE TABLE" in statement for step in steps for statement in step.statements)
    assert incompatibilities(steps) == []


@pytest.mark.parametrize(
    ("statement", "word"),
    [
        ("DROP TABLE recipes", "DROP TABLE recipes"),
        ("ALTER TABLE recipes DROP COLUMN name", "takes a column away"),
        ("ALTER TABLE ONLY public.recipes ADD a INT, DROP b", "takes a column away"),
        ("ALTER TABLE recipes RENAME COLUMN a TO b", "renames"),
        ("ALTER TABLE recipes RENAME TO others", "renames"),
        ("ALTER TABLE recipes ALTER COLUMN a TYPE BIGINT", "changes a type"),
        ("ALTER TABLE recipes ALTER COLUMN a SET NOT NULL", "forbids NULL"),
        ("ALTER TABLE recipes ALTER a DROP DEFAULT", "default"),
        ("ALTER TABLE recipes ADD COLUMN a NUMERIC(10,2) NOT NULL", "needs a value"),
        ("ALTER TABLE recipes ADD CONSTRAINT c CHECK (a > 0)", "constraint"),
        ("CREATE UNIQUE INDEX i ON recipes (a)", "UNIQUE"),
        ("TRUNCATE recipes", "TRUNCATE"),
    ],
)
def test_what_older_code_may_trip_over_is_found(statement: str, word: str):
    (told,) = narrowed([statement])
    assert word in told
    assert list(narrowed(["CREATE TABLE recipes (a INT)", statement])) == [], "a new table is nobody's yet"


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE recipes ADD COLUMN a INT",
        "ALTER TABLE recipes ADD COLUMN type VARCHAR DEFAULT 'DROP' NOT NULL",
        "ALTER TABLE recipes ALTER COLUMN a DROP NOT NULL",
        "ALTER TABLE recipes DROP CONSTRAINT c",
        "CREATE INDEX i ON recipes (a)",
        "DROP INDEX i",
        "UPDATE recipes SET a = 'DROP TABLE recipes' -- RENAME",
        "CREATE TABLE more (a INT NOT NULL)",
    ],
)
def test_what_only_adds_is_let_through(statement: str):
    assert list(narrowed([statement])) == []


def a_step(*statements: str, before: str = "0001", after: str = "0001") -> Step:
    return Step("0009", "0008", statements, before, after)


def test_contracting_is_allowed_a_release_later_and_said_in_the_database():
    drop = "ALTER TABLE recipes DROP COLUMN a"
    (told,) = incompatibilities([a_step(drop)], ["0005"])
    assert "must raise schema_info.oldest_code_revision to 0005" in told
    assert incompatibilities([a_step(drop, after="0005")], ["0005"]) == []
    (told,) = incompatibilities([a_step(drop, after="0007")], ["0005"])
    assert "shuts out code of 0005" in told
    assert incompatibilities([a_step(drop, after="0008")], []) == []
    (told,) = incompatibilities([a_step(before="0003", after="0002")], ["0005"])
    assert "lets code in again" in told


async def test_a_migration_that_drops_is_found_on_the_database_itself(empty_database_url: str, tmp_path: Path):
    dropping = (
        newer_schema.MIGRATION[: newer_schema.MIGRATION.index("    known =")]
        + "    op.drop_column('hosts', 'labels')\n"
    )
    folder = newer_schema.write_migration(tmp_path, dropping)
    engine = create_async_engine(empty_database_url)
    async with engine.begin() as conn:
        steps = await conn.run_sync(run_steps, folder)
    await engine.dispose()
    (told,) = incompatibilities(steps)
    assert "9000 contracts (takes a column away in hosts)" in told


async def test_the_newer_schema_of_these_tests_expands_only(empty_database_url: str, tmp_path: Path):
    engine = create_async_engine(empty_database_url)
    async with engine.begin() as conn:
        steps = await conn.run_sync(run_steps, newer_schema.write_migration(tmp_path))
    await engine.dispose()
    assert len([line for line in steps[-1].statements if "ADD COLUMN" in line]) > 20
    assert incompatibilities(steps) == []


async def test_writers_go_on_while_the_schema_is_upgraded(empty_database_url: str, tmp_path: Path):
    folder = newer_schema.write_migration(tmp_path)
    database, newer = Database(empty_database_url), Database(empty_database_url)
    await database.upgrade()
    written, upgraded, after = 0, asyncio.Event(), 0

    async def write() -> None:
        nonlocal written, after
        while after < 10:
            try:
                async with database.transaction() as conn:
                    await recipes.apply_recipe(conn, a_recipe(max_model_len=written + 1), "ann", NOW)
                    await deployments.apply_deployment(conn, a_deployment_spec("chat", priority=written), "ann", NOW)
                    await events.append(conn, [an_event(message=str(written))])
            except UnavailableError:
                # Busy: refused whole, and told so.
                continue
            written += 1
            after += upgraded.is_set()

    async def upgrade() -> None:
        while written < 10:
            await asyncio.sleep(0.01)
        while not upgraded.is_set():
            try:
                async with newer.transaction() as conn:
                    assert await conn.run_sync(newer_schema.upgrade_to_newer, folder) == newer_schema.NEWER
            except UnavailableError:
                # A deadlock with the writer may end either of the two; what upgrades tries again, as Database.upgrade does.
                continue
            upgraded.set()

    async with asyncio.TaskGroup() as group:
        group.create_task(write())
        group.create_task(upgrade())
    async with database.transaction() as conn:
        assert (await recipes.get_recipe(conn, "tiny")).revision == written
        assert (await deployments.get_deployment(conn, "chat")).version == written
        told = await events.list_events(conn, limit=1000, after_sequence=0)
    assert [event.message for event in told] == [str(number) for number in range(written)]
    assert await database.upgrade() == newer_schema.NEWER, "code that starts anew goes on as well"
    await database.close()
    await newer.close()


@pytest.mark.timeout(300)
def test_the_whole_store_works_on_the_newer_schema():
    assert len(SUITE) > 10
    ran = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:xdist",
            *(str(HERE / name) for name in SUITE),
        ],
        env={**os.environ, newer_schema.VARIABLE: "1"},
        cwd=HERE.parents[1],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-1000:]
