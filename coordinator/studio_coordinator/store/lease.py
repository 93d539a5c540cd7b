"""Who leads: one lease row with a monotonic epoch as fencing token.

Time is the database's own clock, so coordinators need not agree on theirs. An advisory lock would not do: a frozen holder keeps
it for ever, and one that lost its connection believes that it still has it. The epoch rises at every take-over, and when a
holder comes back after its lease was over.
"""

from dataclasses import dataclass

from sqlalchemy import BigInteger, CheckConstraint, Column, Integer, String, Table, case, func, or_, select, update
from sqlalchemy.dialects.postgresql import TIMESTAMP, insert
from sqlalchemy.ext.asyncio import AsyncConnection
from studio_runtime.errors import UnavailableError

from studio_coordinator.store.metadata import METADATA

LEADER_LEASE = Table(
    "leader_lease",
    METADATA,
    Column("id", Integer, CheckConstraint("id = 1", name="single_row"), primary_key=True, autoincrement=False),
    Column("holder", String, nullable=False),
    Column("address", String, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("expires_at", TIMESTAMP(timezone=True), nullable=False),
)


class LostLeaseError(UnavailableError):
    """This coordinator leads no more."""

    reason = "lost_lease"


@dataclass(frozen=True)
class Lease:
    """What the lease row says to the one who asked."""

    holder: str
    # Where the holder can be reached.
    address: str
    # The term: rises with every take-over.
    epoch: int
    # By the asker.
    held: bool


async def acquire_or_renew(
    conn: AsyncConnection, holder: str, address: str, ttl_seconds: float, *, renews: bool = True
) -> Lease:
    """Take the lease where it is free or over, renew it where ``holder`` has it; else say who has it.

    ``holder`` outlives its process, so a restarted coordinator need not wait for its own lease; but it has forgotten who was
    connected, so its first call does not renew (``renews``) and begins a new term.
    """
    now = func.clock_timestamp()
    until = now + func.make_interval(0, 0, 0, 0, 0, 0, ttl_seconds)
    row = LEADER_LEASE.c
    fresh = insert(LEADER_LEASE).values(id=1, holder=holder, address=address, epoch=1, expires_at=until)
    taken = fresh.on_conflict_do_update(
        index_elements=[row.id],
        set_={
            "holder": fresh.excluded.holder,
            "address": fresh.excluded.address,
            "epoch": case(
                ((row.holder == fresh.excluded.holder) & (row.expires_at > now), row.epoch), else_=row.epoch + 1
            )
            if renews
            else row.epoch + 1,
            "expires_at": until,
        },
        where=or_(row.holder == fresh.excluded.holder, row.expires_at <= now),
    ).returning(row.epoch)
    epoch = (await conn.execute(taken)).scalar_one_or_none()
    if epoch is not None:
        return Lease(holder, address, int(epoch), held=True)
    other = (await conn.execute(select(row.holder, row.address, row.epoch))).one()
    return Lease(other.holder, other.address, int(other.epoch), held=False)


async def check(conn: AsyncConnection, epoch: int) -> None:
    """Make sure that term ``epoch`` still leads, and that it does until this transaction ends; else raise LostLeaseError."""
    row = LEADER_LEASE.c
    query = select(row.holder, row.epoch, (row.expires_at > func.clock_timestamp()).label("live")).with_for_update(
        read=True
    )
    found = (await conn.execute(query)).one_or_none()
    if found is None or found.epoch != epoch:
        now = "nobody leads" if found is None else f"{found.holder} leads in term {found.epoch}"
        raise LostLeaseError(f"term {epoch} is over: {now}")
    if not found.live:
        raise LostLeaseError(f"the lease of term {epoch} ran out before it was renewed")


async def raise_epoch(conn: AsyncConnection, above: int) -> int:
    """Begin a term above ``above`` and above the present one; whoever leads must know it at once. Returns the new epoch."""
    row = LEADER_LEASE.c
    raised = update(LEADER_LEASE).values(epoch=func.greatest(row.epoch, above) + 1).returning(row.epoch)
    return int((await conn.execute(raised)).scalar_one())


async def release(conn: AsyncConnection, holder: str) -> None:
    """End the lease of ``holder`` now, so that another need not wait for it; nothing happens when it has none."""
    row = LEADER_LEASE.c
    await conn.execute(update(LEADER_LEASE).where(row.holder == holder).values(expires_at=func.clock_timestamp()))
