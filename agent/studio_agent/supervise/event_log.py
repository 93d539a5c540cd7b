"""Events, each with a sentence for people; also logged, so that both tell the same story."""

from collections.abc import Callable

import structlog
from google.protobuf.timestamp_pb2 import Timestamp
from studio.v1.event_pb2 import Event
from studio_runtime.logging import redacted

from studio_agent.event_queue import EventQueue
from studio_agent.plan.record import ReplicaRecord

Severity = Event.Severity
log = structlog.get_logger()


class EventLog:
    """Puts events into the durable queue."""

    def __init__(self, queue: EventQueue, host_name: str, changed: Callable[[], None]) -> None:
        self.queue = queue
        self._host_name = host_name
        self._changed = changed

    def say(
        self,
        kind: str,
        message: str,
        record: ReplicaRecord | None = None,
        *,
        severity: "Severity.ValueType" = Event.SEVERITY_INFO,
        reason: str = "",
        **attributes: str,
    ) -> None:
        """Record that something happened: ``kind`` is noun and verb, ``message`` a sentence."""
        event = Event(
            severity=severity,
            kind=kind,
            reason=reason,
            message=message,
            attributes=attributes,
        )
        event.at.GetCurrentTime()
        if record is not None:
            event.replica = record.replica_id
            event.deployment = record.assigned.deployment
            event.attributes["generation"] = str(record.generation)
        self._put(event)
        level = log.warning if severity in (Event.SEVERITY_WARNING, Event.SEVERITY_ERROR) else log.info
        level(kind.replace(".", "_"), replica=event.replica, reason=reason, message=message, **attributes)

    def pass_on(self, event: Event) -> None:
        """Record an event that another part of the agent has made."""
        self._put(event)
        log.info(event.kind.replace(".", "_"), reason=event.reason, message=event.message)

    def _put(self, event: Event) -> None:
        # Engines quote their environment and their arguments when they fail.
        event.message = redacted(event.message)
        event.host = self._host_name
        event.actor = "agent"
        self.queue.put(event)
        self._changed()


def timestamp(seconds: float) -> Timestamp:
    """Seconds since the epoch as the contract has them."""
    stamp = Timestamp()
    stamp.FromNanoseconds(int(seconds * 1e9))
    return stamp
