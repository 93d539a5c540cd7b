"""The rows as one pass of the plan changes them, and the events that say so."""

from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp
from studio.v1.event_pb2 import Event
from studio.v1.replica_pb2 import Replica


class Worksheet:
    """Private to one pass: rows are copies, the stored ones stay as they are."""

    def __init__(self, now: datetime) -> None:
        self.now = Timestamp()
        self.now.FromDatetime(now)
        self.rows: dict[str, Replica] = {}
        self.deleted: list[str] = []
        self.events: list[Event] = []

    def of(self, deployment: str) -> list[Replica]:
        """The rows of a deployment that are to stay."""
        return [row for row in self.rows.values() if row.deployment == deployment and not row.retiring]

    def move(self, row: Replica, state: Replica.State.ValueType, reason: str) -> None:
        """Put a row into a state, with the sentence that says why."""
        row.state, row.state_reason = state, reason
        row.state_since.CopyFrom(self.now)

    def retire(self, row: Replica, reason: str) -> None:
        """Have a replica go away: first out of the routes, then off its host, then its row is deleted."""
        row.retiring, row.retiring_reason = True, reason
        if row.engine_ready:
            self.move(row, Replica.STATE_DRAINING, f"its route is being withdrawn: {reason}")
        self.tell(row, "replica.retiring", f"{row.id} is to go: {reason}")

    def tell(
        self,
        row: Replica,
        kind: str,
        message: str,
        severity: Event.Severity.ValueType = Event.SEVERITY_INFO,
    ) -> None:
        """Add an event about a replica."""
        self.events.append(
            Event(
                at=self.now,
                severity=severity,
                kind=kind,
                host=row.host_name,
                deployment=row.deployment,
                replica=row.id,
                message=message,
                actor="plan",
            )
        )
