"""Who owns a public model name: one deployment (as its name or as an alias) or one provider model.

The primary key makes a name unique over all of them, whatever happens at the same time.
"""

from collections.abc import Iterable

from sqlalchemy import Column, String, Table, delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection
from studio_runtime.errors import ConflictError

from studio_coordinator.store.metadata import METADATA

DEPLOYMENT = "deployment"
PROVIDER = "provider model"

MODEL_NAMES = Table(
    "model_names",
    METADATA,
    Column("name", String, primary_key=True),
    Column("owner_kind", String, nullable=False),
    Column("owner", String, nullable=False),
)


async def claim_names(conn: AsyncConnection, owner_kind: str, owner: str, names: Iterable[str]) -> None:
    """Make ``names`` exactly the public names of the owner; ConflictError, naming the other, when one is taken."""
    # Sorted, so that two who claim the same names wait for one another instead of blocking each other.
    wanted = sorted(set(names))
    row = MODEL_NAMES.c
    mine = (row.owner_kind == owner_kind) & (row.owner == owner)
    await conn.execute(delete(MODEL_NAMES).where(mine, row.name.not_in(wanted)))
    for name in wanted:
        claim = insert(MODEL_NAMES).values(name=name, owner_kind=owner_kind, owner=owner)
        await conn.execute(claim.on_conflict_do_nothing())
    taken = select(MODEL_NAMES).where(row.name.in_(wanted), ~mine).order_by(row.name)
    other = (await conn.execute(taken)).first()
    if other is not None:
        as_alias = " as an alias" if other.name != other.owner else ""
        raise ConflictError(
            f"{owner_kind} {owner} cannot have the public name {other.name}: {other.owner_kind} {other.owner} has it{as_alias}",
            "Choose another name or alias, or take it from the other first.",
        )


async def release_names(conn: AsyncConnection, owner_kind: str, owner: str) -> None:
    """Give up all public names of the owner."""
    row = MODEL_NAMES.c
    await conn.execute(delete(MODEL_NAMES).where(row.owner_kind == owner_kind, row.owner == owner))
