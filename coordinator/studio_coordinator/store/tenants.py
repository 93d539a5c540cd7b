"""Tenants: who keys and deployments belong to. Every change raises the access version that gateways follow."""

from sqlalchemy import BigInteger, Column, Double, String, Table, delete, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection
from studio.v1.route_pb2 import Limits, Tenant
from studio_runtime.errors import ConflictError, NotFoundError

from studio_coordinator.manifest import close_names_hint
from studio_coordinator.store.columns import Document, Instant, from_row, to_row
from studio_coordinator.store.counters import ACCESS, raise_counter
from studio_coordinator.store.metadata import METADATA

# Everybody's who was given to nobody in particular; made by the migration, never removed.
DEFAULT = "default"

TENANTS = Table(
    "tenants",
    METADATA,
    Column("name", String, primary_key=True),
    Column("description", String, nullable=False),
    Column("limits", Document(Limits)),
    Column("weight", Double),
    Column("created_at", Instant, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("user_limits", Document(Limits)),
)


async def create_tenant(conn: AsyncConnection, tenant: Tenant) -> Tenant:
    """Store a new tenant; ConflictError where its name is taken."""
    row = to_row(TENANTS, tenant, version=1)
    created = insert(TENANTS).values(row).on_conflict_do_nothing().returning(*TENANTS.c)
    stored = (await conn.execute(created)).mappings().one_or_none()
    if stored is None:
        raise ConflictError(f"there is a tenant {tenant.name} already", "studio tenants set changes it.")
    await raise_counter(conn, ACCESS)
    return from_row(Tenant, stored)


async def change_tenant(conn: AsyncConnection, tenant: Tenant) -> Tenant:
    """Replace what is stored under its name; ConflictError where ``tenant.version`` is not the stored one."""
    present = await get_tenant(conn, tenant.name)
    row = to_row(TENANTS, tenant, version=tenant.version + 1, created_at=present.created_at)
    is_seen = (TENANTS.c.name == tenant.name) & (TENANTS.c.version == tenant.version)
    changed = (await conn.execute(update(TENANTS).where(is_seen).values(row).returning(*TENANTS.c))).mappings()
    stored = changed.one_or_none()
    if stored is None:
        raise ConflictError(
            f"tenant {tenant.name} was changed meanwhile: version {present.version}, you saw {tenant.version}",
            "Look again with studio tenants, then repeat the change.",
        )
    await raise_counter(conn, ACCESS)
    return from_row(Tenant, stored)


async def get_tenant(conn: AsyncConnection, name: str) -> Tenant:
    """NotFoundError, with names that are close, where there is none."""
    row = (await conn.execute(select(TENANTS).where(TENANTS.c.name == name))).mappings().one_or_none()
    if row is None:
        names = [tenant.name for tenant in await list_tenants(conn)]
        hint = close_names_hint(name, names, "studio tenants lists them; studio tenants create makes one.")
        raise NotFoundError(f"there is no tenant {name}", hint)
    return from_row(Tenant, row)


async def list_tenants(conn: AsyncConnection) -> list[Tenant]:
    """All tenants, by name."""
    rows = await conn.execute(select(TENANTS).order_by(TENANTS.c.name))
    return [from_row(Tenant, row) for row in rows.mappings()]


async def remove_tenant(conn: AsyncConnection, name: str) -> None:
    """Remove a tenant that nothing belongs to; the caller has looked. NotFoundError where there is none."""
    await get_tenant(conn, name)
    await conn.execute(delete(TENANTS).where(TENANTS.c.name == name))
    await raise_counter(conn, ACCESS)
