"""What the agent must remember over its own death: what it accepted, and which engines it started.

One content, replaced as a whole. Its first line is the SHA-256 of the rest, so one that was cut anywhere, or changed, is known
as such; it is then moved aside and the engines are found again by their cgroups, tokens and launch notes. Changes are made in
memory and are on disk when ``flush`` returns; a failed flush (a full disk) keeps the older content whole.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from studio.v1.assignment_pb2 import Assignment
from studio_runtime.failpoints import failpoint

from studio_agent.errors import LedgerUnreadableError
from studio_agent.ledger.store import LedgerStore
from studio_agent.ledger_format import decode, encode
from studio_agent.plan.gpu_blame import Strikes
from studio_agent.plan.record import ReplicaRecord
from studio_agent.threads import to_the_end


@dataclass
class Ledger:
    """The agent's memory; ``records`` and the assignment are changed through the methods alone."""

    store: LedgerStore
    assignment: Assignment | None = None
    highest_term: int = 0
    records: dict[str, ReplicaRecord] = field(default_factory=dict)
    # What is held against the host's GPUs.
    strikes: Strikes = field(default_factory=Strikes)
    # Where a damaged content was put; "" after a clean load.
    quarantined: str = ""
    # Called after every change.
    changed: Callable[[], None] = field(default=lambda: None)
    _version: int = 0
    _flushed: int = 0
    _writing: asyncio.Lock = field(default_factory=asyncio.Lock)

    @classmethod
    def load(cls, store: LedgerStore) -> "Ledger":
        """Read the ledger; where nothing is kept it is empty, and what is damaged is moved aside. Raises OSError."""
        content = store.load()
        if content is None:
            return cls(store)
        try:
            known = decode(content)
        except LedgerUnreadableError:
            return cls(store, quarantined=store.quarantine())
        return cls(store, known.assignment, known.highest_term, known.records, known.strikes)

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
            term = max(self.highest_term, assignment.term)
            content = encode(assignment, term, self.records.values(), self.strikes)
            failpoint("assignment_offered")
            await to_the_end(self.store.save, content)
            failpoint("assignment_written")
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

    def hold_against_gpus(self, strikes: Strikes) -> None:
        """Replace what is held against the host's GPUs."""
        if strikes != self.strikes:
            self.strikes = strikes
            self._touch()

    def put(self, record: ReplicaRecord) -> None:
        """Replace what is known of one replica."""
        known = self.records.get(record.replica_id)
        self.records[record.replica_id] = record
        if known is None or not _means_the_same(known, record):
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
            version = self._version
            content = encode(self.assignment, self.highest_term, self.records.values(), self.strikes)
            await to_the_end(self.store.save, content)
            self._flushed = version

    def _touch(self) -> None:
        self._version += 1
        self.changed()


def _means_the_same(known: ReplicaRecord, record: ReplicaRecord) -> bool:
    """Whether they differ in nothing but what is for watchers alone, which is not worth a write to disk."""
    return record == replace(known, progress=record.progress, suspicion=record.suspicion, measured=record.measured)
