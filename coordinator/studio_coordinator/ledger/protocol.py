"""The storage of the leader's loop as the loop sees it."""

from dataclasses import dataclass
from typing import Protocol

from studio.v1.event_pb2 import Event
from studio.v1.route_pb2 import AccessTable

from studio_coordinator.plan.snapshot import Plan, Snapshot
from studio_coordinator.wakeup import Wakeup


@dataclass(frozen=True)
class Loaded:
    """What one pass works on, as of one moment."""

    snapshot: Snapshot
    access: AccessTable


class Ledger(Protocol):
    """Each call is one transaction: all of it, or nothing. UnavailableError when the store does not answer."""

    @property
    def changed(self) -> Wakeup:
        """Set when something that snapshots are made of is known anew, beside what sessions and gateways say."""
        ...

    async def load(self) -> Loaded:
        """The world as it is stored and heard now."""
        ...

    async def commit(self, snapshot: Snapshot, decided: Plan) -> None:
        """Write a plan that was made on ``snapshot``.

        ConflictError when a row is no longer what the plan was made on; UnavailableError when the snapshot's term is over.
        """
        ...

    async def append(self, event: Event) -> None:
        """Store an event that belongs to no plan."""
        ...
