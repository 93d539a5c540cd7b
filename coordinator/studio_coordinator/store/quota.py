"""What is leased of keys' and tenants' bounds. A grant is committed before it is said, so no leader hands it out twice.

Rows are locked in one order, so that gateways that ask at once wait and never block one another for good.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import BigInteger, Column, ForeignKey, LargeBinary, String, Table, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection
from studio.v1.route_service_pb2 import LeaseQuotaResponse, QuotaSubject

from studio_coordinator.quota import ENDLESS
from studio_coordinator.store.columns import EnumName, Instant
from studio_coordinator.store.metadata import METADATA

# A gateway that has asked for nothing for so long is not counted, and its slots and outage amounts are free again.
FORGOTTEN = timedelta(hours=1)
LEDGER_KEPT_WINDOWS = 2

# Every start of a gateway that ever asked.
QUOTA_GATEWAYS = Table(
    "quota_gateways",
    METADATA,
    Column("instance_id", String, primary_key=True),
    Column("gateway_id", String, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    # To the request with that sequence.
    Column("answer", LargeBinary, nullable=False),
    Column("seen_at", Instant, nullable=False),
)
# Units that were leased and not given back.
QUOTA_LEDGER = Table(
    "quota_ledger",
    METADATA,
    Column("owner", String, primary_key=True),
    Column("bound", EnumName(QuotaSubject.Bound.DESCRIPTOR, "BOUND_"), primary_key=True),
    Column("window", BigInteger, primary_key=True),
    Column("leased", BigInteger, nullable=False),
)
# By gateway: slots that it holds, and what it may use of a minute in which it has not asked.
QUOTA_HOLDINGS = Table(
    "quota_holdings",
    METADATA,
    Column(
        "instance_id",
        String,
        ForeignKey("quota_gateways.instance_id", ondelete="CASCADE"),
        primary_key=True,
    ),
    Column("owner", String, primary_key=True),
    Column("bound", EnumName(QuotaSubject.Bound.DESCRIPTOR, "BOUND_"), primary_key=True),
    Column("slots", BigInteger, nullable=False),
    Column("outage_amount", BigInteger, nullable=False),
    # The last window in which it asked.
    Column("asked_window", BigInteger, nullable=False),
)

Place = tuple[str, QuotaSubject.Bound.ValueType, int]


@dataclass(frozen=True)
class Gateway:
    """One start of a gateway, as it was when it last asked."""

    instance_id: str
    sequence: int
    answer: LeaseQuotaResponse


def owner_of(subject: QuotaSubject) -> str:
    """``key:4f9c2a``, ``tenant:research`` or ``user:research/alice``."""
    match subject.WhichOneof("owner"):
        case "key_id":
            return f"key:{subject.key_id}"
        case "user":
            return f"user:{subject.user}"
        case _:
            return f"tenant:{subject.tenant}"


async def gateway(conn: AsyncConnection, instance_id: str, gateway_id: str, now: datetime) -> Gateway | None:
    """Lock the gateway's row; None where it asks for the first time. Earlier starts of it are dead and hold nothing."""
    row = QUOTA_GATEWAYS.c
    dead = (row.gateway_id == gateway_id) & (row.instance_id != instance_id)
    for gone in (dead, row.seen_at < now - FORGOTTEN):
        await conn.execute(delete(QUOTA_GATEWAYS).where(gone & (row.instance_id != instance_id)))
    query = select(row.sequence, row.answer).where(row.instance_id == instance_id).with_for_update()
    found = (await conn.execute(query)).one_or_none()
    if found is None:
        return None
    return Gateway(instance_id, found.sequence, LeaseQuotaResponse.FromString(found.answer))


async def keep_answer(
    conn: AsyncConnection, instance_id: str, gateway_id: str, sequence: int, answer: LeaseQuotaResponse, now: datetime
) -> None:
    """Remember what a gateway was told."""
    values = {"sequence": sequence, "answer": answer.SerializeToString(), "seen_at": now}
    row = insert(QUOTA_GATEWAYS).values(instance_id=instance_id, gateway_id=gateway_id, **values)
    await conn.execute(row.on_conflict_do_update(index_elements=["instance_id"], set_=values))


async def farewell(conn: AsyncConnection, instance_id: str) -> None:
    """A gateway has ended: nothing is kept for it, and it is not counted any more, unless requests of it still have slots."""
    held = QUOTA_HOLDINGS.c
    await conn.execute(update(QUOTA_HOLDINGS).where(held.instance_id == instance_id).values(outage_amount=0))
    is_in_use = select(held.instance_id).where((held.instance_id == instance_id) & (held.slots > 0)).exists()
    await conn.execute(delete(QUOTA_GATEWAYS).where((QUOTA_GATEWAYS.c.instance_id == instance_id) & ~is_in_use))


async def gateways(conn: AsyncConnection) -> int:
    """How many gateways ask at present."""
    return int((await conn.execute(select(func.count()).select_from(QUOTA_GATEWAYS))).scalar_one())


async def lock(conn: AsyncConnection, places: Iterable[Place]) -> dict[Place, int]:
    """Units that are leased at each of ``places``, which are locked until the transaction ends."""
    ordered = sorted(set(places))
    if not ordered:
        return {}
    rows = [{"owner": owner, "bound": bound, "window": window, "leased": 0} for owner, bound, window in ordered]
    await conn.execute(insert(QUOTA_LEDGER).values(rows).on_conflict_do_nothing())
    row = QUOTA_LEDGER.c
    leased: dict[Place, int] = {}
    for owner, bound, window in ordered:
        here = (row.owner == owner) & (row.bound == bound) & (row.window == window)
        found = await conn.execute(select(row.leased).where(here).with_for_update())
        leased[owner, bound, window] = int(found.scalar_one())
    return leased


async def put(conn: AsyncConnection, leased: dict[Place, int]) -> None:
    """Write what ``lock`` read and the caller changed; rows of minutes that are long over go."""
    row = QUOTA_LEDGER.c
    for (owner, bound, window), units in leased.items():
        here = (row.owner == owner) & (row.bound == bound)
        await conn.execute(update(QUOTA_LEDGER).where(here & (row.window == window)).values(leased=units))
        if window != ENDLESS:
            await conn.execute(delete(QUOTA_LEDGER).where(here & (row.window < window - LEDGER_KEPT_WINDOWS)))


async def leased_of(conn: AsyncConnection, bounds: Collection[QuotaSubject.Bound.ValueType]) -> dict[Place, int]:
    """Units that are leased of every bound of these kinds."""
    row = QUOTA_LEDGER.c
    query = select(row.owner, row.bound, row.window, row.leased).where(row.bound.in_(bounds))
    return {(one.owner, one.bound, one.window): int(one.leased) for one in await conn.execute(query)}


async def slots_held(conn: AsyncConnection, owner: str, bound: QuotaSubject.Bound.ValueType) -> dict[str, int]:
    """Slots by gateway."""
    row = QUOTA_HOLDINGS.c
    query = select(row.instance_id, row.slots).where((row.owner == owner) & (row.bound == bound))
    return {found.instance_id: int(found.slots) for found in await conn.execute(query)}


async def kept_for_others(
    conn: AsyncConnection, owner: str, bound: QuotaSubject.Bound.ValueType, instance_id: str
) -> Sequence[tuple[int, int]]:
    """``(outage amount, last window in which it asked)`` of every other gateway."""
    row = QUOTA_HOLDINGS.c
    others = (row.owner == owner) & (row.bound == bound) & (row.instance_id != instance_id)
    found = await conn.execute(select(row.outage_amount, row.asked_window).where(others))
    return [(int(amount), int(window)) for amount, window in found]


async def asked(conn: AsyncConnection, instance_id: str, window: int) -> None:
    """A gateway has asked in the minute ``window``: nothing is kept for it until the next."""
    row = QUOTA_HOLDINGS.c
    await conn.execute(update(QUOTA_HOLDINGS).where(row.instance_id == instance_id).values(asked_window=window))


async def hold(
    conn: AsyncConnection,
    instance_id: str,
    owner: str,
    bound: QuotaSubject.Bound.ValueType,
    *,
    window: int,
    slots: int = 0,
    outage_amount: int = 0,
) -> None:
    """Write what a gateway holds of a bound besides leases of one window."""
    values = {"slots": slots, "outage_amount": outage_amount, "asked_window": window}
    row = insert(QUOTA_HOLDINGS).values(instance_id=instance_id, owner=owner, bound=bound, **values)
    await conn.execute(row.on_conflict_do_update(index_elements=["instance_id", "owner", "bound"], set_=values))
