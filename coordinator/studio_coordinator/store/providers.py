"""Models of other providers, reached through LiteLLM; their keys are never stored here, but named."""

from datetime import datetime

from sqlalchemy import Boolean, Column, String, Table, delete, select
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.ext.asyncio import AsyncConnection
from studio.v1.route_pb2 import ProviderRoute
from studio_runtime.errors import NotFoundError

from studio_coordinator.manifest import close_names_hint
from studio_coordinator.store.columns import Instant, from_row, to_row
from studio_coordinator.store.metadata import METADATA
from studio_coordinator.store.model_names import PROVIDER, claim_names, release_names

PROVIDER_MODELS = Table(
    "provider_models",
    METADATA,
    Column("model", String, primary_key=True),
    Column("provider_model", String, nullable=False),
    Column("api_base", String, nullable=False),
    Column("api_key_env", String, nullable=False),
    Column("api_key_secret", String, nullable=False, server_default=""),
    Column("allow_private", Boolean, nullable=False, server_default="false"),
    Column("fallbacks", ARRAY(String), nullable=False, server_default="{}"),
    Column("updated_at", Instant, nullable=False),
    Column("actor", String, nullable=False),
)


async def add_provider(conn: AsyncConnection, provider: ProviderRoute, actor: str, now: datetime) -> None:
    """Store a provider's model, or replace what was stored under its name; ConflictError when a deployment has the name."""
    await claim_names(conn, PROVIDER, provider.model, [provider.model])
    row = to_row(PROVIDER_MODELS, provider, actor=actor, updated_at=now)
    await conn.execute(insert(PROVIDER_MODELS).values(row).on_conflict_do_update(index_elements=["model"], set_=row))


async def list_providers(conn: AsyncConnection) -> list[ProviderRoute]:
    """All provider models, by name."""
    rows = await conn.execute(select(PROVIDER_MODELS).order_by(PROVIDER_MODELS.c.model))
    return [from_row(ProviderRoute, row) for row in rows.mappings()]


async def remove_provider(conn: AsyncConnection, model: str) -> None:
    """Remove a provider's model; NotFoundError, with names that are close, where there is none."""
    removed = delete(PROVIDER_MODELS).where(PROVIDER_MODELS.c.model == model)
    if not (await conn.execute(removed)).rowcount:
        names = [provider.model for provider in await list_providers(conn)]
        hint = close_names_hint(model, names, "studio providers lists them.")
        raise NotFoundError(f"there is no provider model {model}", hint)
    await release_names(conn, PROVIDER, model)
