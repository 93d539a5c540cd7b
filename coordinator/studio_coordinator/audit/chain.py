"""The hash chain, pure: each entry's hash covers its canonical form and the hash of the entry before.

Canonical is JSON with sorted keys, without spaces, in ASCII; the time in microseconds. The first entry follows 32 zero bytes.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from google.protobuf.timestamp_pb2 import Timestamp
from studio.v1.access_service_pb2 import AuditAnchor, AuditEntry

FIRST_PREVIOUS = bytes(32)
# What an entry says, beside its place in the chain.
TEXTS = ("actor", "role", "action", "object", "request_id", "before", "after", "outcome", "peer")
MOST_FINDINGS = 100


def hash_of(entry: AuditEntry, sequence: int | None = None) -> bytes:
    """SHA-256 of ``entry`` as it is; with ``sequence``: as if it stood there."""
    content = {name: getattr(entry, name) for name in TEXTS}
    content |= {
        "sequence": entry.sequence if sequence is None else sequence,
        "at": entry.at.ToMicroseconds(),
        "previous_hash": entry.previous_hash.hex(),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).digest()


def chained(entry: AuditEntry, previous: AuditAnchor) -> AuditEntry:
    """``entry`` as the one that follows ``previous``."""
    entry.sequence, entry.previous_hash = previous.sequence + 1, previous.hash
    entry.hash = hash_of(entry)
    return entry


def anchor_of(entry: AuditEntry, at: Timestamp) -> AuditAnchor:
    """The head of a chain that ends with ``entry``."""
    return AuditAnchor(sequence=entry.sequence, hash=entry.hash, at=at)


@dataclass
class Verification:
    """Takes every entry in the order of their sequences; then ``findings`` names what is not as it was written.

    ``anchors`` are heads of the chain that were kept elsewhere, ``head`` the one that the database itself keeps.
    """

    anchors: Sequence[AuditAnchor] = ()
    entries: int = 0
    last: AuditAnchor = field(default_factory=lambda: AuditAnchor(hash=FIRST_PREVIOUS))
    _findings: list[str] = field(default_factory=list)
    _suspects: dict[int, AuditEntry] = field(default_factory=dict)

    def take(self, entry: AuditEntry) -> None:
        """The next entry."""
        self.entries += 1
        self._gap_before(entry.sequence)
        follows = entry.sequence == self.last.sequence + 1
        if entry.hash != hash_of(entry):
            self._suspects[entry.sequence] = entry
        elif follows and entry.previous_hash != self.last.hash and self.last.sequence not in self._suspects:
            self._find(
                f"entry {entry.sequence} does not follow entry {self.last.sequence}: one of them was written anew"
            )
        self._compare_anchors(entry)
        self.last = AuditAnchor(sequence=entry.sequence, hash=entry.hash)

    def finish(self, head: AuditAnchor) -> list[str]:
        """Compare the end with ``head`` and with the anchors; all findings, at most a hundred."""
        self._findings[:0] = self._explained(self._suspects)
        end = max([head.sequence, *(anchor.sequence for anchor in self.anchors)])
        self._gap_before(end + 1)
        if head.sequence == self.last.sequence and head.hash != self.last.hash:
            self._find(f"entry {head.sequence} is not the one that was written last: it was written anew")
        elif head.sequence < self.last.sequence:
            self._find(f"entries after {head.sequence} were added by another way than this coordinator's")
        return self._findings

    def _gap_before(self, sequence: int) -> None:
        first, last = self.last.sequence + 1, sequence - 1
        if first == last:
            self._find(f"entry {first} is missing")
        elif first < last:
            self._find(f"entries {first} to {last} are missing")

    def _compare_anchors(self, entry: AuditEntry) -> None:
        for anchor in self.anchors:
            if anchor.sequence == entry.sequence and anchor.hash != entry.hash:
                self._find(
                    f"entry {entry.sequence} is not the one that was anchored: it, or one before it, was written anew"
                )

    def _find(self, finding: str) -> None:
        if len(self._findings) < MOST_FINDINGS:
            self._findings.append(finding)

    def _explained(self, suspects: dict[int, AuditEntry]) -> Iterator[str]:
        """An entry whose hash is right for another place was moved; one whose hash is right nowhere was edited."""
        places = list(suspects)[:MOST_FINDINGS]
        for sequence in places:
            entry = suspects[sequence]
            origin = next((place for place in places if entry.hash == hash_of(entry, place)), None)
            yield f"entry {sequence} was edited" if origin is None else f"entry {sequence} was moved from {origin}"


def verify(entries: Iterable[AuditEntry], anchors: Sequence[AuditAnchor], head: AuditAnchor) -> list[str]:
    """What is wrong with a chain at hand."""
    verification = Verification(anchors)
    for entry in entries:
        verification.take(entry)
    return verification.finish(head)
