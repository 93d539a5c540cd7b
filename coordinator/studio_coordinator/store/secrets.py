"""Secrets that recipes and providers name: sealed values, opened by whoever has the sealer."""

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import Column, LargeBinary, String, Table, delete, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection
from studio.v1.access_service_pb2 import Secret
from studio_runtime.errors import ConflictError, NotFoundError
from studio_runtime.logging import hide

from studio_coordinator.manifest import close_names_hint
from studio_coordinator.sealing import Sealer
from studio_coordinator.store.columns import Instant, from_row, to_row
from studio_coordinator.store.metadata import METADATA

SECRETS = Table(
    "secrets",
    METADATA,
    Column("name", String, primary_key=True),
    Column("tenant", String, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
    Column("actor", String, nullable=False),
)

# The newest revision of each recipe, and every other one that a deployment is pinned to.
USERS = text(
    """
SELECT 'Recipe/' || r.name AS who, named.secret FROM recipes r
JOIN recipe_revisions v ON v.recipe_name = r.name,
LATERAL (
  SELECT jsonb_each_text.value AS secret FROM jsonb_each_text(coalesce(v.recipe -> 'secrets', '{}'::jsonb))
  UNION SELECT v.recipe -> 'model' ->> 'token_secret'
) AS named
WHERE r.deleted_at IS NULL AND named.secret IS NOT NULL AND (
  v.revision = r.newest_revision OR EXISTS (SELECT FROM deployments d WHERE d.recipe = r.name AND d.recipe_revision = v.revision)
)
UNION SELECT 'Provider/' || model, api_key_secret FROM provider_models WHERE api_key_secret <> ''
ORDER BY 1
"""
)


async def put_secret(conn: AsyncConnection, sealer: Sealer, secret: Secret, value: str, now: datetime) -> Secret:
    """Store a secret, or another value for one that is there; ConflictError where it is another tenant's."""
    sealed = sealer.seal(value.encode(), _place(secret.name))
    row = to_row(SECRETS, secret, sealed=sealed, created_at=now, updated_at=now)
    changed = {"sealed": sealed, "updated_at": now, "actor": secret.actor}
    stored = (
        insert(SECRETS)
        .values(row)
        .on_conflict_do_update(index_elements=["name"], set_=changed, where=SECRETS.c.tenant == secret.tenant)
        .returning(*SECRETS.c)
    )
    found = (await conn.execute(stored)).mappings().one_or_none()
    if found is None:
        raise ConflictError(f"the name {secret.name} is taken by a secret of another tenant", "Choose another name.")
    return from_row(Secret, found)


async def list_secrets(conn: AsyncConnection) -> list[Secret]:
    """All secrets by name, with who names them; never their values."""
    rows = (await conn.execute(select(SECRETS).order_by(SECRETS.c.name))).mappings().all()
    users = [(row.who, row.secret) for row in await conn.execute(USERS)]
    found = [from_row(Secret, row) for row in rows]
    for secret in found:
        secret.used_by.extend(who for who, name in users if name == secret.name)
    return found


async def remove_secret(conn: AsyncConnection, name: str, *, force: bool) -> Secret:
    """Remove a secret and return what it was. NotFoundError where there is none, ConflictError while it is named."""
    found = {secret.name: secret for secret in await list_secrets(conn)}
    if name not in found:
        raise NotFoundError(f"there is no secret {name}", close_names_hint(name, found, "studio secrets lists them."))
    if found[name].used_by and not force:
        raise ConflictError(
            f"the secret {name} is named by {', '.join(found[name].used_by)}",
            "Change these first, or force it: what starts anew with it will then wait.",
        )
    await conn.execute(delete(SECRETS).where(SECRETS.c.name == name))
    return found[name]


async def tenants_of(conn: AsyncConnection, names: Iterable[str]) -> dict[str, str]:
    """The tenant of each of ``names`` that there is."""
    rows = await conn.execute(select(SECRETS.c.name, SECRETS.c.tenant).where(SECRETS.c.name.in_(sorted(set(names)))))
    return {row.name: row.tenant for row in rows}


async def open_values(conn: AsyncConnection, sealer: Sealer, names: Iterable[str]) -> dict[str, str]:
    """The value of each of ``names`` that there is. Raises SealingError."""
    rows = await conn.execute(select(SECRETS.c.name, SECRETS.c.sealed).where(SECRETS.c.name.in_(sorted(set(names)))))
    values = {row.name: sealer.open(bytes(row.sealed), _place(row.name)).decode() for row in rows}
    for value in values.values():
        hide(value)
    return values


async def seal_anew(conn: AsyncConnection, sealer: Sealer) -> int:
    """Seal with the newest master key what an older one sealed; how many there were. Raises SealingError."""
    rows = (await conn.execute(select(SECRETS.c.name, SECRETS.c.sealed).with_for_update())).all()
    stale = {row.name: bytes(row.sealed) for row in rows if not sealer.is_current(bytes(row.sealed))}
    for name, sealed in stale.items():
        anew = sealer.seal(sealer.open(sealed, _place(name)), _place(name))
        await conn.execute(update(SECRETS).where(SECRETS.c.name == name).values(sealed=anew))
    return len(stale)


def _place(name: str) -> str:
    """Where the sealed value belongs."""
    return f"secret/{name}"
