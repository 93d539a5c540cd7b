"""What the agent must remember over its own death: what it accepted, and which engines it started.

One file, replaced as a whole. Its first line is the SHA-256 of the rest, so a file that was cut anywhere, or changed, is known
as such; it is then moved aside and the engines are found again by their cgroups, tokens and launch notes. Changes are made in
memory and are on disk when ``flush`` returns; a failed flush (a full disk) keeps the older file whole.
"""

import asyncio
import base64
import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError, Message
from studio.v1.assignment_pb2 import AssignedReplica, Assignment
from studio.v1.replica_pb2 import Failure
from studio_runtime.process import write_atomically

from studio_agent.errors import LedgerUnreadableError
from studio_agent.plan.record import Engine, ReplicaRecord
from studio_agent.threads import to_the_end

FORMAT = 1


@dataclass
class Ledger:
    """The agent's memory; ``records`` and the assignment are changed through the methods alone."""

    path: Path
    assignment: Assignment | None = None
    highest_term: int = 0
    records: dict[str, ReplicaRecord] = field(default_factory=dict)
    # Where a damaged file was put; "" after a clean load.
    quarantined: str = ""
    # Called after every change.
    changed: Callable[[], None] = field(default=lambda: None)
    _version: int = 0
    _flushed: int = 0
    _writing: asyncio.Lock = field(default_factory=asyncio.Lock)

    @classmethod
    def load(cls, path: Path) -> "Ledger":
        """Read the ledger; an absent file is an empty one, a damaged file is moved aside."""
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return cls(path)
        try:
            return cls(path, **_decode(content))
        except LedgerUnreadableError:
            aside = path.with_name(f"{path.name}.damaged-{time.time_ns()}")
            path.rename(aside)
            return cls(path, quarantined=str(aside))

    @property
    def applied_generation(self) -> int:
        """The generation of the assignment in force; 0: none."""
        return 0 if self.assignment is None else self.assignment.generation

    @property
    def dirty(self) -> bool:
        """Whether something is not on disk yet."""
        return self._flushed != self._version

    async def accept(self, assignment: Assignment) -> None:
        """Put an assignment in force once it is on disk. Raises OSError; the one before then stays in force."""
        async with self._writing:
            version = self._version
            content = _encode(self, assignment, max(self.highest_term, assignment.term))
            await to_the_end(write_atomically, self.path, content)
            self._flushed = version
        self.assignment = assignment
        self.highest_term = max(self.highest_term, assignment.term)
        self.changed()

    def drop_assignment(self) -> None:
        """Nothing is in force any more: what to run is asked anew."""
        self.assignment = None
        self._touch()

    def see_term(self, term: int) -> None:
        """Remember the highest term seen."""
        if term > self.highest_term:
            self.highest_term = term
            self._touch()

    def put(self, record: ReplicaRecord) -> None:
        """Replace what is known of one replica."""
        known = self.records.get(record.replica_id)
        self.records[record.replica_id] = record
        # Progress is for watchers; it is not worth a write to disk.
        if known is None or replace(known, progress=record.progress) != record:
            self._version += 1
        self.changed()

    def forget(self, replica_id: str) -> None:
        """Drop what is known of one replica."""
        if self.records.pop(replica_id, None) is not None:
            self._touch()

    async def flush(self) -> None:
        """Return when everything up to this call is on disk; concurrent calls share one write. Raises OSError."""
        wanted = self._version
        async with self._writing:
            if self._flushed >= wanted:
                return
            version, content = self._version, _encode(self, self.assignment, self.highest_term)
            await to_the_end(write_atomically, self.path, content)
            self._flushed = version

    def _touch(self) -> None:
        self._version += 1
        self.changed()


def _encode(ledger: Ledger, assignment: Assignment | None, highest_term: int) -> bytes:
    body = {
        "format": FORMAT,
        "assignment": None if assignment is None else _packed(assignment),
        "highest_term": highest_term,
        "records": [encode_record(record) for record in ledger.records.values()],
    }
    text = json.dumps(body, indent=1).encode()
    return hashlib.sha256(text).hexdigest().encode() + b"\n" + text


def _decode(content: bytes) -> dict[str, Any]:
    digest, _, text = content.partition(b"\n")
    if hashlib.sha256(text).hexdigest().encode() != digest:
        raise LedgerUnreadableError("the ledger's digest does not match its content")
    body = json.loads(text)
    if body["format"] != FORMAT:
        raise LedgerUnreadableError(f"the ledger has format {body['format']}; this agent reads {FORMAT}")
    try:
        records = [decode_record(fields) for fields in body["records"]]
        packed = body["assignment"]
        assignment = None if packed is None else _unpacked(packed, Assignment())
    except (DecodeError, KeyError, TypeError, ValueError) as error:
        raise LedgerUnreadableError(f"the ledger cannot be understood: {error}") from error
    return {
        "assignment": assignment,
        "highest_term": body["highest_term"],
        "records": {record.replica_id: record for record in records},
    }


def encode_record(record: ReplicaRecord) -> dict[str, Any]:
    """A record as plain data; progress is left out."""
    return {
        "replica_id": record.replica_id,
        "generation": record.generation,
        "assigned": _packed(record.assigned),
        "state": record.state,
        "reason": record.reason,
        "since": record.since,
        "engine": None if record.engine is None else asdict(record.engine),
        "restarts": list(record.restarts),
        "restart_count": record.restart_count,
        "port_conflicts": record.port_conflicts,
        "failure": None if record.failure is None else _packed(record.failure),
        "retry_at": record.retry_at,
        "retry_is_free": record.retry_is_free,
        "gave_up": record.gave_up,
        "holds_unknown": record.holds_unknown,
    }


def decode_record(fields: Mapping[str, Any]) -> ReplicaRecord:
    """The record that ``encode_record`` made plain. Raises DecodeError, KeyError, TypeError or ValueError."""
    return ReplicaRecord(
        assigned=_unpacked(fields["assigned"], AssignedReplica()),
        state=fields["state"],
        reason=fields["reason"],
        since=fields["since"],
        engine=None if fields["engine"] is None else Engine(**fields["engine"]),
        restarts=tuple(fields["restarts"]),
        restart_count=fields["restart_count"],
        port_conflicts=fields["port_conflicts"],
        failure=None if fields["failure"] is None else _unpacked(fields["failure"], Failure()),
        retry_at=fields["retry_at"],
        retry_is_free=fields["retry_is_free"],
        gave_up=fields["gave_up"],
        holds_unknown=fields["holds_unknown"],
    )


def _packed(message: Message) -> str:
    """Binary, because JSON would lose the fields of a newer coordinator."""
    return base64.b64encode(message.SerializeToString(deterministic=True)).decode("ascii")


M = Any


def _unpacked(text: str, message: M) -> M:
    message.ParseFromString(base64.b64decode(text, validate=True))
    return message
