"""Audit entries: in the transaction of the change, or, where it touched no row or was refused, right after.

A call that changes something has a ``Draft`` as the witness of its transactions. The beginning of each shows what the objects
were, the end of one that wrote shows what they became, and takes an entry with it. What then fails all the same has one more, of
the same request. Refusals are bounded: a stranger must not fill the disk.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog
from google.protobuf.message import Message
from prometheus_client import Counter
from studio.v1.access_service_pb2 import AuditEntry
from studio_runtime.errors import StudioError

from studio_coordinator.access.allowance import Allowance
from studio_coordinator.access.caller import Caller, Kind
from studio_coordinator.access.describe import as_text, describe, is_described, without_secrets
from studio_coordinator.store import audit
from studio_coordinator.store.database import Connection, Database
from studio_coordinator.store.witness import WITNESS

log = structlog.get_logger()

OK = "OK"
# Of a call whose change was entered: it went well, or its caller did not stay to hear how it ends.
ENTERED_IS_ENOUGH = (OK, "CANCELLED")
# Refusals that are entered: how many at once, and how many in a minute from then on.
OF_KNOWN = (120, 120)
OF_STRANGERS = (20, 2)
REFUSED = Counter("studio_coordinator_refused_calls_total", "Calls that were refused", ["outcome"])
LONGEST_OBJECTS = 2000
# Stands among what a request said.
LEFT_OUT = "refusals_left_out_before"
MOST_DESCRIBED = 100


@dataclass
class Draft:
    """One change on its way into the log."""

    caller: Caller
    action: str
    objects: list[str]
    # Stands for what an object became where its kind cannot be looked up.
    request: Message
    entered: bool = False
    closed: bool = False
    _before: dict[str, Any] = field(default_factory=dict)

    async def begun(self, conn: Connection) -> None:
        """Look at the objects before anything is done to them."""
        if not self.closed:
            self._before = await _states(conn, self.objects)

    async def committing(self, conn: Connection) -> None:
        """Add an entry to a transaction that changes something: each has its own, so that none is lost with the process."""
        if self.closed or not await audit.has_written(conn):
            return
        after = await _states(conn, self.objects)
        told = self._changed(after)
        became = {name: state for name, state in after.items() if name in told}
        await audit.append(conn, self._entry(OK, told, became or without_secrets(self.request)))
        self.entered = True

    async def add(self, conn: Connection, objects: Sequence[str]) -> None:
        """Look, before anything is done to them, at objects that the request does not name by themselves."""
        self.objects.extend(objects)
        self._before |= await _states(conn, objects)

    def refusal(self, outcome: str, left_out: int = 0) -> AuditEntry:
        """The entry of what did not come about, or touched no row; without its place in the chain.

        ``left_out``: so many refusals before it have none.
        """
        asked = without_secrets(self.request)
        return self._entry(outcome, self.objects, asked | {LEFT_OUT: left_out} if left_out else asked)

    def _changed(self, after: dict[str, Any]) -> list[str]:
        """Of several objects, such as a manifest's, those that became something else; all, where none can be seen to have."""
        changed = [name for name in self.objects if not is_described(name) or self._before.get(name) != after.get(name)]
        return changed or self.objects

    def _entry(self, outcome: str, objects: Sequence[str], after: Any) -> AuditEntry:
        entry = AuditEntry(
            actor=self.caller.name,
            role=self.caller.role_word,
            action=self.action,
            object=audit.SEPARATOR.join(objects)[:LONGEST_OBJECTS],
            request_id=self.caller.request_id,
            before=as_text({name: state for name, state in self._before.items() if name in objects}),
            after=as_text(after),
            outcome=outcome,
            peer=self.caller.peer,
        )
        entry.at.GetCurrentTime()
        return entry


async def _states(conn: Connection, objects: Sequence[str]) -> dict[str, Any]:
    """What those objects look like that there are; of very many none: the entry could not hold them."""
    if len(objects) > MOST_DESCRIBED:
        return {}
    return {name: state for name in objects if (state := await describe(conn, name)) is not None}


async def note_objects(conn: Connection, objects: Sequence[str]) -> None:
    """Say which objects the call that is being served may change, where its request does not name them by themselves."""
    draft = WITNESS.get()
    if isinstance(draft, Draft):
        await draft.add(conn, objects)


def note_made(name: str) -> None:
    """Say what the call that is being served makes, where that has its name only now."""
    draft = WITNESS.get()
    if isinstance(draft, Draft):
        draft.objects.append(name)


@dataclass
class Journal:
    """Where drafts end that no transaction took along."""

    database: Database
    # Apart, so that a stranger cannot keep the refusals of those that are known out of the log.
    _strangers: Allowance = field(default_factory=lambda: Allowance(*OF_STRANGERS))
    _known: Allowance = field(default_factory=lambda: Allowance(*OF_KNOWN))

    async def close(self, draft: Draft, outcome: str) -> None:
        """Enter what happened, if that was not done yet."""
        left_out = 0
        if outcome != OK:
            REFUSED.labels(outcome).inc()
        if (draft.entered and outcome in ENTERED_IS_ENOUGH) or getattr(draft.request, "dry_run", False):
            return
        if outcome != OK:
            allowance = self._strangers if draft.caller.kind is Kind.NOBODY else self._known
            allowed = allowance.take(time.monotonic())
            if allowed is None:
                return
            left_out = allowed
            log.info("call_refused_entered", action=draft.action, actor=draft.caller.name, outcome=outcome)
        # The draft is still the witness of this call's transactions, and of the one that now enters it.
        draft.closed = True
        try:
            async with self.database.transaction() as conn:
                await audit.append(conn, draft.refusal(outcome, left_out))
        except StudioError as error:
            told = {"action": draft.action, "actor": draft.caller.name, "outcome": outcome}
            log.warning("audit_not_written", **told, reason=error.message)
