"""A verification names the entry that was edited, deleted, moved, written anew, or cut off."""

from collections.abc import Sequence

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st
from studio.v1.access_service_pb2 import AuditAnchor, AuditEntry
from studio_coordinator.audit.chain import FIRST_PREVIOUS, TEXTS, anchor_of, chained, verify

AT = Timestamp(seconds=1_800_000_000)


def a_chain(length: int) -> list[AuditEntry]:
    entries: list[AuditEntry] = []
    head = AuditAnchor(hash=FIRST_PREVIOUS)
    for number in range(1, length + 1):
        entry = AuditEntry(at=AT, actor="ann", action="AdminService/Apply", object=f"Recipe/r{number}", outcome="OK")
        entries.append(chained(entry, head))
        head = head_of(entries)
    return entries


def head_of(entries: Sequence[AuditEntry]) -> AuditAnchor:
    return anchor_of(entries[-1], AT) if entries else AuditAnchor(hash=FIRST_PREVIOUS)


@given(st.integers(0, 12))
def test_a_chain_as_it_was_written_has_no_findings(length: int) -> None:
    chain = a_chain(length)
    assert verify(chain, [head_of(chain)], head_of(chain)) == []


@given(st.integers(1, 12), st.data())
def test_an_edited_entry_is_named(length: int, data: st.DataObject) -> None:
    chain = a_chain(length)
    head = head_of(chain)
    victim = chain[data.draw(st.integers(0, length - 1))]
    field = data.draw(st.sampled_from(TEXTS))
    setattr(victim, field, getattr(victim, field) + "x")
    assert verify(chain, [], head) == [f"entry {victim.sequence} was edited"]


@given(st.integers(1, 12), st.data())
def test_deleted_entries_are_named_wherever_they_were(length: int, data: st.DataObject) -> None:
    chain = a_chain(length)
    head = head_of(chain)
    first = data.draw(st.integers(0, length - 1))
    last = data.draw(st.integers(first, length - 1))
    told = f"entry {first + 1} is" if first == last else f"entries {first + 1} to {last + 1} are"
    assert verify(chain[:first] + chain[last + 1 :], [], head) == [f"{told} missing"]


def test_entries_that_changed_places_are_named() -> None:
    chain = a_chain(6)
    head = head_of(chain)
    chain[1].sequence, chain[3].sequence = 4, 2
    chain.sort(key=lambda entry: entry.sequence)
    assert verify(chain, [], head) == ["entry 2 was moved from 4", "entry 4 was moved from 2"]


def test_an_entry_that_was_written_anew_with_its_hash_does_not_fit_the_next() -> None:
    chain = a_chain(5)
    forged = AuditEntry()
    forged.CopyFrom(chain[2])
    forged.actor = "nobody"
    chained(forged, head_of(chain[:2]))
    assert verify([*chain[:2], forged, *chain[3:]], [], head_of(chain)) == [
        "entry 4 does not follow entry 3: one of them was written anew"
    ]


def test_a_history_that_was_written_anew_from_a_point_on_is_found_by_an_anchor_alone() -> None:
    chain = a_chain(6)
    kept = head_of(chain[:4])
    forged = chain[:2]
    for entry in chain[2:]:
        other = AuditEntry()
        other.CopyFrom(entry)
        other.actor = "nobody"
        forged.append(chained(other, head_of(forged)))
    assert verify(forged, [], head_of(forged)) == []
    assert verify(forged, [kept], head_of(forged)) == [
        "entry 4 is not the one that was anchored: it, or one before it, was written anew"
    ]


def test_a_tail_that_was_cut_off_with_the_head_is_found_by_an_anchor_alone() -> None:
    chain = a_chain(6)
    anchor, rest = head_of(chain), chain[:3]
    assert verify(rest, [], head_of(rest)) == []
    assert verify(rest, [anchor], head_of(rest)) == ["entries 4 to 6 are missing"]


def test_entries_beyond_the_noted_head_are_found() -> None:
    chain = a_chain(4)
    assert verify(chain, [], head_of(chain[:2])) == [
        "entries after 2 were added by another way than this coordinator's"
    ]


@pytest.mark.parametrize("field", ["previous_hash", "hash"])
def test_a_changed_hash_is_an_edit(field: str) -> None:
    chain = a_chain(4)
    setattr(chain[1], field, bytes(32))
    assert verify(chain, [], head_of(chain)) == ["entry 2 was edited"]
