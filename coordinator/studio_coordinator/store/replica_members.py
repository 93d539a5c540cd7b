"""The parts of replicas over several hosts beside rank 0. Written with their replica, whose version guards them too."""

from collections import defaultdict
from collections.abc import Collection

from sqlalchemy import Column, ForeignKey, Integer, String, Table, select
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.ext.asyncio import AsyncConnection
from studio.v1.replica_pb2 import Replica, ReplicaMember

from studio_coordinator.store.columns import EnumName, from_row, to_row
from studio_coordinator.store.hosts import HOSTS
from studio_coordinator.store.metadata import METADATA

# `host_name` is the host's.
REPLICA_MEMBERS = Table(
    "replica_members",
    METADATA,
    Column("replica_id", String, ForeignKey("replicas.id", ondelete="CASCADE"), primary_key=True),
    Column("rank", Integer, primary_key=True),
    Column("host_id", String, ForeignKey("hosts.id"), nullable=False, index=True),
    Column("gpu_uuids", ARRAY(String), nullable=False),
    Column("state", EnumName(Replica.State.DESCRIPTOR, "STATE_"), nullable=False),
    Column("state_reason", String, nullable=False),
)


async def list_members(conn: AsyncConnection) -> dict[str, list[ReplicaMember]]:
    """Members of every replica over several hosts, by its id, in the order of ranks."""
    query = select(REPLICA_MEMBERS, HOSTS.c.name.label("host_name")).join(HOSTS).order_by(REPLICA_MEMBERS.c.rank)
    found: dict[str, list[ReplicaMember]] = defaultdict(list)
    for row in (await conn.execute(query)).mappings():
        found[row["replica_id"]].append(from_row(ReplicaMember, row))
    return found


async def put_members(conn: AsyncConnection, replica_id: str, members: Collection[ReplicaMember]) -> None:
    """Store the members of a replica as they are now; a replica that was placed once keeps its ranks."""
    if not members:
        return
    rows = [to_row(REPLICA_MEMBERS, member, replica_id=replica_id) for member in members]
    written = insert(REPLICA_MEMBERS).values(rows)
    newer = {name: written.excluded[name] for name in ("host_id", "gpu_uuids", "state", "state_reason")}
    await conn.execute(written.on_conflict_do_update(index_elements=["replica_id", "rank"], set_=newer))
