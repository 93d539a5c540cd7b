"""Running engines. The leader is the one writer; a row version guards against a leader that does not know yet that it was."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Integer,
    String,
    Table,
    delete,
    exists,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.ext.asyncio import AsyncConnection
from studio.v1.replica_pb2 import Failure, Replica, StartProgress

from studio_coordinator.store.columns import Document, EnumName, Instant, TextOrNull, from_row, to_row
from studio_coordinator.store.hosts import HOSTS
from studio_coordinator.store.metadata import METADATA
from studio_coordinator.store.replica_members import REPLICA_MEMBERS, list_members, put_members

# `host_name` is the host's, `figures` are in memory only: neither is kept here.
REPLICAS = Table(
    "replicas",
    METADATA,
    Column("id", String, primary_key=True),
    Column("deployment", String, ForeignKey("deployments.name"), nullable=False, index=True),
    Column("recipe_name", String, nullable=False),
    Column("recipe_revision", Integer, nullable=False),
    Column("host_id", TextOrNull, ForeignKey("hosts.id"), index=True),
    Column("gpu_uuids", ARRAY(String), nullable=False),
    Column("state", EnumName(Replica.State.DESCRIPTOR, "STATE_"), nullable=False),
    Column("state_reason", String, nullable=False),
    Column("state_since", Instant),
    Column("progress", Document(StartProgress)),
    Column("failure", Document(Failure)),
    Column("generation", BigInteger, nullable=False),
    Column("base_url", String, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("restarts", Integer, nullable=False),
    Column("retry_at", Instant),
    Column("engine_ready", Boolean, nullable=False),
    Column("retiring", Boolean, nullable=False),
    Column("retiring_reason", String, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("engine", String, nullable=False),
    Column("sleep_level", Integer, nullable=False, server_default="0"),
    Column("loaded_adapters", ARRAY(String), nullable=False, server_default="{}"),
    ForeignKeyConstraint(
        ["recipe_name", "recipe_revision"], ["recipe_revisions.recipe_name", "recipe_revisions.revision"]
    ),
)


async def list_replicas(conn: AsyncConnection, deployment: str = "") -> list[Replica]:
    """All replicas, or those of one deployment, in the order of deployment and number."""
    has_members = exists().where(REPLICA_MEMBERS.c.replica_id == REPLICAS.c.id)
    query = select(REPLICAS, HOSTS.c.name.label("host_name"), has_members.label("has_members"))
    query = query.outerjoin(HOSTS, HOSTS.c.id == REPLICAS.c.host_id)
    if deployment:
        query = query.where(REPLICAS.c.deployment == deployment)
    rows = (await conn.execute(query)).mappings().all()
    replicas = [from_row(Replica, row) for row in rows]
    members = await list_members(conn) if any(row["has_members"] for row in rows) else {}
    for replica in replicas:
        replica.members.extend(members.get(replica.id, ()))
    return sorted(replicas, key=lambda replica: (replica.deployment, _number(replica.id, replica.deployment)))


async def insert_replica(conn: AsyncConnection, replica: Replica) -> None:
    """Store a new replica as version 1; its deployment and recipe revision must exist, and its host where it names one."""
    await conn.execute(insert(REPLICAS).values(to_row(REPLICAS, replica) | {"version": 1}))
    await put_members(conn, replica.id, replica.members)


async def update_replica(conn: AsyncConnection, replica: Replica) -> bool:
    """Write ``replica`` as the next version; False, and nothing is written, when its version is not the newest."""
    row = REPLICAS.c
    same = (row.id == replica.id) & (row.version == replica.version)
    written = to_row(REPLICAS, replica) | {"version": replica.version + 1}
    if (await conn.execute(update(REPLICAS).where(same).values(written))).rowcount != 1:
        return False
    await put_members(conn, replica.id, replica.members)
    return True


async def delete_replica(conn: AsyncConnection, replica_id: str) -> None:
    """Remove a replica; nothing happens when it is gone already."""
    await conn.execute(delete(REPLICAS).where(REPLICAS.c.id == replica_id))


def _number(replica_id: str, deployment: str) -> int:
    """``chat-2`` of ``chat`` is 2."""
    return int(replica_id.removeprefix(f"{deployment}-"))
