"""Recipes and their immutable revisions.

A revision is never changed and never removed, and its number is never given twice: a deleted recipe keeps its row, and comes
back with the next number when it is applied again.
"""

import hashlib
import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Column,
    ForeignKey,
    Integer,
    Row,
    Select,
    String,
    Table,
    column,
    func,
    select,
    table,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection
from studio.v1.admin_service_pb2 import Applied
from studio.v1.recipe_pb2 import Recipe, RecipeRevision
from studio_runtime.errors import ConflictError, NotFoundError

from studio_coordinator.manifest import changed_paths, close_names_hint
from studio_coordinator.store.columns import Document, Instant, document_of, from_row
from studio_coordinator.store.metadata import METADATA

RECIPES = Table(
    "recipes",
    METADATA,
    Column("name", String, primary_key=True),
    Column("newest_revision", Integer, nullable=False),
    Column("deleted_at", Instant),
)

RECIPE_REVISIONS = Table(
    "recipe_revisions",
    METADATA,
    Column("recipe_name", String, ForeignKey("recipes.name"), primary_key=True),
    Column("revision", Integer, primary_key=True, autoincrement=False),
    Column("recipe", Document(Recipe), nullable=False),
    Column("digest", String, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("actor", String, nullable=False),
)

# Only to see who uses a recipe: deployments.py owns the table, and imports this module.
DEPLOYMENTS = table("deployments", column("name"), column("recipe"))


def digest_of(recipe: Recipe) -> str:
    """SHA-256, in hex, of the recipe in canonical form: the same content gives the same digest."""
    canonical = json.dumps(document_of(recipe), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


async def apply_recipe(
    conn: AsyncConnection,
    recipe: Recipe,
    actor: str,
    now: datetime,
    *,
    expected_revision: int = 0,
    create_only: bool = False,
) -> Applied:
    """Store ``recipe`` as a new revision where it differs from the newest one.

    ``expected_revision`` is the newest revision that the caller saw (0: any): a stale one raises ConflictError with what
    changed since. With ``create_only`` a recipe that exists is left as it is.
    """
    name = recipe.name
    row = await _locked(conn, name)
    exists = row.newest_revision > 0 and row.deleted_at is None
    newest = await get_recipe(conn, name) if exists else None
    if newest is not None and expected_revision not in (0, newest.revision):
        raise await _stale(conn, newest, expected_revision)
    if newest is None and expected_revision:
        raise ConflictError(
            f"recipe {name} was deleted since revision {expected_revision}",
            "To create it anew, apply it without the revision that you saw.",
        )
    digest = digest_of(recipe)
    if newest is not None and (create_only or newest.digest == digest):
        return Applied(kind="Recipe", name=name, outcome=Applied.OUTCOME_UNCHANGED, revision=newest.revision)
    revision = row.newest_revision + 1
    written = {"recipe": recipe, "digest": digest, "created_at": now, "actor": actor}
    await conn.execute(insert(RECIPE_REVISIONS).values(recipe_name=name, revision=revision, **written))
    await conn.execute(update(RECIPES).where(RECIPES.c.name == name).values(newest_revision=revision, deleted_at=None))
    if newest is None:
        return Applied(kind="Recipe", name=name, outcome=Applied.OUTCOME_CREATED, revision=revision)
    changes = changed_paths(newest.recipe, recipe)
    return Applied(kind="Recipe", name=name, outcome=Applied.OUTCOME_CHANGED, revision=revision, changes=changes)


async def put_revision(conn: AsyncConnection, recipe: Recipe, revision: int, actor: str, now: datetime) -> Applied:
    """Store ``recipe`` as this revision, from an export; the number becomes the newest where it is the highest.

    A revision is never changed: ConflictError when another text has the number already.
    """
    name, digest = recipe.name, digest_of(recipe)
    row = await _locked(conn, name)
    there = RECIPE_REVISIONS.c
    query = select(there.digest).where(there.recipe_name == name, there.revision == revision)
    found = (await conn.execute(query)).scalar_one_or_none()
    if found not in (None, digest):
        raise ConflictError(
            f"recipe {name} has another r{revision} already",
            "Revisions are never changed: import into a system without this recipe, or leave the number out.",
        )
    if found is not None and row.deleted_at is None:
        return Applied(kind="Recipe", name=name, outcome=Applied.OUTCOME_UNCHANGED, revision=revision)
    if found is None:
        written = {"recipe": recipe, "digest": digest, "created_at": now, "actor": actor}
        await conn.execute(insert(RECIPE_REVISIONS).values(recipe_name=name, revision=revision, **written))
    newest = max(row.newest_revision, revision)
    await conn.execute(update(RECIPES).where(RECIPES.c.name == name).values(newest_revision=newest, deleted_at=None))
    return Applied(kind="Recipe", name=name, outcome=Applied.OUTCOME_CREATED, revision=revision)


async def rollback_recipe(
    conn: AsyncConnection, name: str, revision: int, actor: str, now: datetime, expected_revision: int = 0
) -> Applied:
    """Make an older revision (0: the one before the newest) the newest again, as a new revision.

    Raises NotFoundError where there is none, ConflictError where ``expected_revision`` (0: any) is stale.
    """
    newest = await get_recipe(conn, name)
    older = await get_recipe(conn, name, revision or await previous_revision(conn, name, newest.revision))
    # What came between this look and the lock is refused, not undone.
    expected = expected_revision or newest.revision
    return await apply_recipe(conn, older.recipe, actor, now, expected_revision=expected)


async def previous_revision(conn: AsyncConnection, name: str, revision: int) -> int:
    """The number before ``revision``; NotFoundError where it is the first."""
    there = RECIPE_REVISIONS.c
    query = select(func.max(there.revision)).where(there.recipe_name == name, there.revision < revision)
    previous = (await conn.execute(query)).scalar_one()
    if previous is None:
        raise NotFoundError(f"recipe {name} has no revision before r{revision}", "studio recipes history lists them.")
    return int(previous)


async def list_revisions(conn: AsyncConnection, name: str) -> list[RecipeRevision]:
    """All revisions of a recipe, newest first; NotFoundError where there is no such recipe."""
    await get_recipe(conn, name)
    query = _live_revisions().where(RECIPE_REVISIONS.c.recipe_name == name)
    rows = await conn.execute(query.order_by(RECIPE_REVISIONS.c.revision.desc()))
    return [from_row(RecipeRevision, row) for row in rows.mappings()]


async def get_recipe(conn: AsyncConnection, name: str, revision: int = 0) -> RecipeRevision:
    """A revision of a recipe, 0 being the newest; NotFoundError, with names that are close, where there is none."""
    one = RECIPE_REVISIONS.c.revision == (revision or RECIPES.c.newest_revision)
    query = _live_revisions().where(RECIPE_REVISIONS.c.recipe_name == name, one)
    row = (await conn.execute(query)).mappings().one_or_none()
    if row is not None:
        return from_row(RecipeRevision, row)
    query_newest = select(RECIPES.c.name, RECIPES.c.newest_revision).where(RECIPES.c.deleted_at.is_(None))
    newest = {found.name: found.newest_revision for found in await conn.execute(query_newest)}
    if name in newest:
        raise NotFoundError(f"recipe {name} has no revision {revision}", f"Its newest revision is {newest[name]}.")
    raise NotFoundError(f"there is no recipe {name}", close_names_hint(name, newest, "studio recipes lists them."))


async def list_recipes(conn: AsyncConnection) -> list[RecipeRevision]:
    """The newest revision of each recipe, by name."""
    newest = _live_revisions().where(RECIPE_REVISIONS.c.revision == RECIPES.c.newest_revision)
    rows = await conn.execute(newest.order_by(RECIPE_REVISIONS.c.recipe_name))
    return [from_row(RecipeRevision, row) for row in rows.mappings()]


async def revisions(conn: AsyncConnection, wanted: Iterable[tuple[str, int]]) -> dict[tuple[str, int], Recipe]:
    """The recipes of the (name, revision) pairs that exist, those of deleted recipes as well."""
    row = RECIPE_REVISIONS.c
    query = select(row.recipe_name, row.revision, row.recipe)
    rows = await conn.execute(query.where(tuple_(row.recipe_name, row.revision).in_(sorted(set(wanted)))))
    return {(found.recipe_name, found.revision): found.recipe for found in rows}


async def delete_recipe(conn: AsyncConnection, name: str) -> None:
    """Delete a recipe; ConflictError, naming them, while deployments use it."""
    # Whoever applies a deployment holds this row shared, so that the recipe cannot go between its look and its write.
    await conn.execute(select(RECIPES).where(RECIPES.c.name == name).with_for_update(key_share=True))
    await get_recipe(conn, name)
    query = select(DEPLOYMENTS.c.name).where(DEPLOYMENTS.c.recipe == name).order_by(DEPLOYMENTS.c.name)
    users = list((await conn.execute(query)).scalars())
    if users:
        raise ConflictError(
            f"recipe {name} is used by {', '.join(users)}",
            "Delete these deployments first, or point them at another recipe.",
        )
    await conn.execute(update(RECIPES).where(RECIPES.c.name == name).values(deleted_at=func.now()))


def _live_revisions() -> Select[*tuple[Any, ...]]:
    """All revisions of the recipes that are not deleted."""
    joined = RECIPES.c.name == RECIPE_REVISIONS.c.recipe_name
    return select(RECIPE_REVISIONS).join(RECIPES, joined).where(RECIPES.c.deleted_at.is_(None))


async def _locked(conn: AsyncConnection, name: str) -> Row[*tuple[Any, ...]]:
    """The row of a recipe, made where there is none, locked until the transaction ends."""
    await conn.execute(insert(RECIPES).values(name=name, newest_revision=0).on_conflict_do_nothing())
    return (await conn.execute(select(RECIPES).where(RECIPES.c.name == name).with_for_update(key_share=True))).one()


async def _stale(conn: AsyncConnection, newest: RecipeRevision, expected: int) -> ConflictError:
    name = newest.recipe_name
    seen = (await revisions(conn, [(name, expected)])).get((name, expected))
    changes = "; ".join(changed_paths(seen, newest.recipe)) if seen is not None else "all of it"
    return ConflictError(
        f"recipe {name} is at revision {newest.revision} (by {newest.actor}), not {expected}; changed since: {changes}",
        "Look at the newest revision, then apply your change to it.",
    )
