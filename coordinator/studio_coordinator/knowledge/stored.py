"""The stored hosts and assignments, in memory, and brought up to date by what changed.

A pass of the loop costs as many rows as were written since the last one, not as many as there are hosts. Whatever was missed
shows in the sum over the table, and is then found by looking at all rows' stamps.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from itertools import islice
from typing import Generic, TypeVar

from studio.v1.assignment_pb2 import Assignment
from studio.v1.host_pb2 import Host

from studio_coordinator.plan.topology import domains
from studio_coordinator.store import assignments, hosts
from studio_coordinator.store.changes import Look, Watched, look
from studio_coordinator.store.database import Connection

Row = TypeVar("Row")

# Read at once: some ten milliseconds of parsing, between which others have their turn.
PAGE = 100


@dataclass
class Mirror(Generic[Row]):
    """A copy of one table. ``read`` brings the rows with some keys; those that are gone are left out."""

    table: Watched
    read: Callable[[Connection, Collection[str]], Awaitable[dict[str, Row]]]
    rows: dict[str, Row] = field(default_factory=dict)
    _stamps: dict[str, int] = field(default_factory=dict)
    _horizon: int = 0

    @property
    def horizon(self) -> int:
        """Since when to look."""
        return self._horizon

    async def refresh(self, conn: Connection, found: Look) -> bool:
        """Make the copy what the table is now, by what a look since ``horizon`` found; whether it was not."""
        # Forgotten until all of it is done: a refresh that is broken off begins anew.
        self._horizon = 0
        stamps = {**self._stamps, **found.stamps}
        if sum(stamps.values()) != found.total:
            # Rows went, or came back from elsewhere.
            found = (await look(conn, {self.table: 0}))[self.table]
            stamps = dict(found.stamps)
        differing = [key for key, stamp in stamps.items() if self._stamps.get(key) != stamp]
        gone = self.rows.keys() - stamps.keys()
        keys = iter(differing)
        while page := list(islice(keys, PAGE)):
            fresh = await self.read(conn, page)
            for key in page:
                if key in fresh:
                    self.rows[key], self._stamps[key] = fresh[key], stamps[key]
                else:
                    gone.add(key)
            await asyncio.sleep(0)
        for key in gone:
            self.rows.pop(key, None)
            self._stamps.pop(key, None)
        self._horizon = found.horizon
        return bool(differing or gone)


@dataclass(frozen=True, slots=True)
class StoredHost:
    """One host with its GPUs; the same object for as long as it is stored unchanged."""

    id: str
    name: str
    message: bytes


async def _read_hosts(conn: Connection, ids: Collection[str]) -> dict[str, StoredHost]:
    found = await hosts.read_hosts(conn, ids)
    for host in found.values():
        _say_links_once(host)
    return {host.id: StoredHost(host.id, host.name, host.SerializeToString()) for host in found.values()}


def _say_links_once(host: Host) -> None:
    """Have each GPU name the first of its NVLink domain alone: that says the same, in a fraction of the memory."""
    numbers = domains([(gpu.uuid, gpu.nvlink_peers) for gpu in host.gpus])
    first: dict[int, str] = {}
    for gpu in host.gpus:
        named = first.setdefault(numbers[gpu.uuid], gpu.uuid)
        gpu.nvlink_peers[:] = [] if named == gpu.uuid else [named]


class StoredFleet:
    """Both copies. Assignments in it are values: whoever changes one, changes a copy."""

    def __init__(self) -> None:
        # As they go over the wire: as messages they take three times the memory.
        self._hosts: Mirror[StoredHost] = Mirror(Watched.HOSTS, _read_hosts)
        self._assignments: Mirror[Assignment] = Mirror(Watched.ASSIGNMENTS, assignments.read_assignments)
        self._by_name: list[StoredHost] = []
        # One refresh at a time; a refresh takes no locks in the database.
        self._refreshing = asyncio.Lock()

    async def refresh(self, conn: Connection) -> None:
        """Look at what changed. A few statements, however many hosts there are."""
        async with self._refreshing:
            found = await look(conn, {mirror.table: mirror.horizon for mirror in (self._hosts, self._assignments)})
            if await self._hosts.refresh(conn, found[Watched.HOSTS]):
                self._by_name = sorted(self._hosts.rows.values(), key=lambda host: host.name)
            await self._assignments.refresh(conn, found[Watched.ASSIGNMENTS])

    def hosts(self) -> list[StoredHost]:
        """All hosts by name. When a host was last seen is as old as its last change: see ``seen``."""
        return self._by_name

    def assignments(self) -> dict[str, Assignment]:
        """All assignments by host id."""
        return dict(self._assignments.rows)
