"""Hosts, their sessions and their GPUs.

Every session of an agent raises ``session_epoch``; what is written in the name of an older session is dropped.
"""

import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count

from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Integer,
    String,
    Table,
    bindparam,
    delete,
    func,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, insert
from sqlalchemy.ext.asyncio import AsyncConnection
from studio.v1.agent_service_pb2 import Hello
from studio.v1.host_pb2 import Gpu, Host, HostFacts
from studio_runtime.errors import ConflictError, NotFoundError

from studio_coordinator.manifest import close_names_hint
from studio_coordinator.store.columns import Document, EnumName, Instant, from_row, to_row, without_nul
from studio_coordinator.store.metadata import METADATA

HOST_STATE = EnumName(Host.State.DESCRIPTOR, "STATE_")
GPU_HEALTH = EnumName(Gpu.Health.DESCRIPTOR, "HEALTH_")

HOSTS = Table(
    "hosts",
    METADATA,
    Column("id", String, primary_key=True),
    Column("name", String, nullable=False, unique=True),
    Column("state", HOST_STATE, nullable=False),
    Column("state_reason", String, nullable=False),
    Column("facts", Document(HostFacts), nullable=False),
    Column("labels", JSONB, nullable=False),
    Column("cordoned", Boolean, nullable=False),
    Column("draining", Boolean, nullable=False),
    Column("last_seen", Instant, nullable=False),
    Column("first_seen", Instant, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("boot_id", String, nullable=False),
    Column("agent_instance_id", String, nullable=False),
    Column("session_epoch", BigInteger, nullable=False),
    # Events of its agent are stored up to here.
    Column("event_sequence_acked", BigInteger, nullable=False),
    # The transaction that changed the host or its GPUs last, set by triggers.
    Column("changed_in", BigInteger, nullable=False, server_default=text("pg_current_xact_id()::text::bigint")),
)

GPUS = Table(
    "gpus",
    METADATA,
    Column("host_id", String, ForeignKey("hosts.id", ondelete="CASCADE"), primary_key=True),
    Column("uuid", String, primary_key=True),
    Column("index", Integer, nullable=False),
    Column("model", String, nullable=False),
    Column("memory_bytes", BigInteger, nullable=False),
    Column("health", GPU_HEALTH, nullable=False),
    Column("health_reason", String, nullable=False),
    Column("compute_capability", String, nullable=False),
    Column("pci_bus_id", String, nullable=False),
    Column("numa_node", Integer, nullable=False),
    Column("parent_uuid", String, nullable=False),
    Column("nvlink_peers", ARRAY(String), nullable=False),
)

# Arrays, so that the statement is the same however many hosts there are. What is NULL stays as it is.
WRITE_STATES = text(
    "UPDATE hosts SET state = coalesce(given.state, hosts.state),"
    " state_reason = coalesce(given.reason, hosts.state_reason), last_seen = coalesce(given.seen, hosts.last_seen)"
    " FROM unnest(CAST(:ids AS varchar[]), CAST(:epochs AS bigint[]), CAST(:states AS varchar[]), CAST(:reasons AS varchar[]),"
    " CAST(:seen AS timestamptz[])) AS given (host_id, session_epoch, state, reason, seen)"
    " WHERE hosts.id = given.host_id AND hosts.session_epoch = coalesce(given.session_epoch, hosts.session_epoch)"
).bindparams(bindparam("states", type_=ARRAY(HOST_STATE)))

_SAID = [f'"{column.name}"' for column in GPUS.columns if column.name != "host_id"]
_NAMES, _NEW = ", ".join(_SAID), ", ".join(f"excluded.{name}" for name in _SAID)
# A document, so that the text of the statement is the same for any number of GPUs: to put it together anew for each host that
# connects would be half of what connecting costs.
PUT_GPUS = text(
    f"INSERT INTO gpus (host_id, {_NAMES})"  # noqa: S608 - names of our own columns
    f" SELECT :host, {_NAMES} FROM jsonb_populate_recordset(NULL::gpus, CAST(:gpus AS jsonb))"
    f" ON CONFLICT (host_id, uuid) DO UPDATE SET ({_NAMES}) = ROW ({_NEW})"
)

# Held while a host's name is chosen, so that two hosts never choose the same one.
NAMING_LOCK = 7_701


@dataclass(frozen=True)
class HostSession:
    """A session that has just been opened."""

    host_id: str
    # What people call the host; unique in the fleet.
    name: str
    session_epoch: int
    # Events up to here are stored.
    event_sequence_acked: int


@dataclass(frozen=True)
class HostState:
    """How far a host is trusted, in the eyes of one of its sessions. What is None stays as it is."""

    host_id: str
    # Written only while this is the host's newest session; None: whichever it is.
    session_epoch: int | None
    state: Host.State.ValueType | None
    reason: str | None
    last_seen: datetime | None

    @classmethod
    def seen(cls, host_id: str, session_epoch: int, now: datetime, age_seconds: float) -> "HostState":
        """That the host was heard ``age_seconds`` before ``now``, and nothing else."""
        return cls(host_id, session_epoch, None, None, now - timedelta(seconds=age_seconds))


async def open_session(conn: AsyncConnection, hello: Hello, host_id: str, now: datetime) -> HostSession:
    """Open a new session of the host: what ``hello`` says of it replaces what was known, and older sessions are over.

    A host that is new, or calls itself something else, gets the name it asks for, or that name with a number.
    """
    wanted = str(without_nul(hello.host_name or hello.facts.hostname or host_id))
    name = await _name_of(conn, host_id)
    if name is None or not re.fullmatch(rf"{re.escape(wanted)}(-\d+)?", name):
        await conn.execute(select(func.pg_advisory_xact_lock(NAMING_LOCK)))
        # Another session of the same host may have named it while this one waited.
        name = await _free_name(conn, host_id, wanted)
    said = {
        "name": name,
        "state": Host.STATE_CONNECTED,
        "state_reason": "",
        "facts": hello.facts,
        "labels": without_nul(dict(hello.labels)),
        "last_seen": now,
        "boot_id": without_nul(hello.boot_id),
        "agent_instance_id": without_nul(hello.agent_instance_id),
    }
    fresh = insert(HOSTS).values(
        id=host_id,
        cordoned=False,
        draining=False,
        first_seen=now,
        version=1,
        session_epoch=1,
        event_sequence_acked=0,
        **said,
    )
    opened = fresh.on_conflict_do_update(
        index_elements=[HOSTS.c.id],
        set_={key: fresh.excluded[key] for key in said}
        | {
            "session_epoch": HOSTS.c.session_epoch + 1,
            # What an operator labelled stays; what the agent is started with wins.
            "labels": HOSTS.c.labels.op("||")(fresh.excluded.labels),
        },
    )
    row = (await conn.execute(opened.returning(HOSTS.c.session_epoch, HOSTS.c.event_sequence_acked))).one()
    await _replace_gpus(conn, host_id, hello.gpus)
    return HostSession(host_id, name, int(row.session_epoch), int(row.event_sequence_acked))


async def list_hosts(conn: AsyncConnection) -> list[Host]:
    """All hosts with their GPUs, by name; GPUs in the order of their index."""
    hosts = {
        row["id"]: from_row(Host, row) for row in (await conn.execute(select(HOSTS).order_by(HOSTS.c.name))).mappings()
    }
    gpus = await conn.execute(select(GPUS).order_by(GPUS.c.host_id, GPUS.c.index, GPUS.c.uuid))
    for row in gpus.mappings():
        # A host may have been added between the two queries.
        if row["host_id"] in hosts:
            hosts[row["host_id"]].gpus.append(from_row(Gpu, row))
    return list(hosts.values())


async def read_hosts(conn: AsyncConnection, ids: Collection[str]) -> dict[str, Host]:
    """Those of the hosts ``ids`` that there are, by id, with their GPUs in the order of their index."""
    found = await conn.execute(select(HOSTS).where(HOSTS.c.id == func.any(list(ids))))
    hosts = {row["id"]: from_row(Host, row) for row in found.mappings()}
    of_them = select(GPUS).where(GPUS.c.host_id == func.any(list(ids)))
    gpus = await conn.execute(of_them.order_by(GPUS.c.host_id, GPUS.c.index, GPUS.c.uuid))
    for row in gpus.mappings():
        if row["host_id"] in hosts:
            hosts[row["host_id"]].gpus.append(from_row(Gpu, row))
    return hosts


async def last_seen(conn: AsyncConnection, ids: Collection[str]) -> dict[str, Timestamp]:
    """When each of the hosts ``ids`` was last heard, by id."""
    if not ids:
        return {}
    found = await conn.execute(select(HOSTS.c.id, HOSTS.c.last_seen).where(HOSTS.c.id == func.any(list(ids))))
    return {row.id: row.last_seen for row in found}


async def find_host(conn: AsyncConnection, name: str) -> Host:
    """The host with this name or id; NotFoundError, with close names as its hint."""
    found = await list_hosts(conn)
    for host in found:
        if name in (host.name, host.id):
            return host
    hint = close_names_hint(name, [host.name for host in found], "studio hosts lists them.")
    raise NotFoundError(f"there is no host {name}", hint)


async def update_host(conn: AsyncConnection, host: Host, expected_version: int = 0) -> Host:
    """Write what operators edit of ``host`` (cordoned, draining, labels); a version that is not the stored one is refused."""
    row = HOSTS.c
    wanted = expected_version or host.version
    edited = {"cordoned": host.cordoned, "draining": host.draining, "labels": dict(host.labels)}
    changed = update(HOSTS).where(row.id == host.id, row.version == wanted).values(version=row.version + 1, **edited)
    if (await conn.execute(changed)).rowcount == 0:
        raise ConflictError(f"host {host.name} was edited since version {wanted}", "Look at it and try again.")
    return await find_host(conn, host.id)


async def remove_host(conn: AsyncConnection, host_id: str) -> None:
    """Forget a host, its GPUs and its assignment; the caller made sure that nothing is left of it."""
    await conn.execute(delete(HOSTS).where(HOSTS.c.id == host_id))


async def set_states(conn: AsyncConnection, states: Sequence[HostState]) -> int:
    """Write the states whose session is still the host's newest, in one statement; returns how many rows changed."""
    if not states:
        return 0
    given = {
        "ids": [state.host_id for state in states],
        "epochs": [state.session_epoch for state in states],
        "states": [state.state for state in states],
        "reasons": [without_nul(state.reason) for state in states],
        "seen": [state.last_seen for state in states],
    }
    return (await conn.execute(WRITE_STATES, given)).rowcount


async def update_gpus(conn: AsyncConnection, host_id: str, session_epoch: int, gpus: Sequence[Gpu]) -> bool:
    """Replace the host's GPUs by ``gpus``; False, and nothing is changed, when the session is not its newest."""
    current = select(HOSTS.c.session_epoch).where(HOSTS.c.id == host_id).with_for_update(key_share=True)
    if (await conn.execute(current)).scalar_one_or_none() != session_epoch:
        return False
    await _replace_gpus(conn, host_id, gpus)
    return True


async def session_epoch(conn: AsyncConnection, host_id: str) -> int:
    """The epoch of the host's newest session; 0 for a host that never had one."""
    query = select(HOSTS.c.session_epoch).where(HOSTS.c.id == host_id)
    return int((await conn.execute(query)).scalar_one_or_none() or 0)


async def _name_of(conn: AsyncConnection, host_id: str) -> str | None:
    return (await conn.execute(select(HOSTS.c.name).where(HOSTS.c.id == host_id))).scalar_one_or_none()


async def _free_name(conn: AsyncConnection, host_id: str, wanted: str) -> str:
    """``wanted``, or the first of wanted-2, wanted-3 … that no other host has. Call it under the naming lock."""
    others = select(HOSTS.c.name).where(HOSTS.c.id != host_id)
    taken = set((await conn.execute(others)).scalars())
    candidates = (wanted if number == 1 else f"{wanted}-{number}" for number in count(1))
    return next(name for name in candidates if name not in taken)


async def _replace_gpus(conn: AsyncConnection, host_id: str, gpus: Sequence[Gpu]) -> None:
    # One row per device, whatever the agent repeats.
    by_uuid = {gpu.uuid: gpu for gpu in gpus}
    await conn.execute(delete(GPUS).where(GPUS.c.host_id == host_id, GPUS.c.uuid.not_in(list(by_uuid))))
    if not by_uuid:
        return
    rows = [to_row(GPUS, gpu, health=GPU_HEALTH.name_of(gpu.health)) for gpu in by_uuid.values()]
    await conn.execute(PUT_GPUS, {"host": host_id, "gpus": json.dumps(rows)})
