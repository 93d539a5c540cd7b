"""One authority follows another in steps that a connected fleet never notices.

::

              rotate              rotate              rotate
    (made) ──────────► TRUSTED ──────────► SIGNING ──────────► RETIRING ──────────► gone
                          │                   │                    │
                          │                   │                    └ still trusted, until what it signed is replaced
                          │                   └ signs; the one that signed before retires in the same step
                          └ every node learns of it, and it signs nothing yet

A step waits for the nodes that it would cut off: nobody signs whom a node has not heard of, nobody goes whose certificate a node
still holds. Nodes whose certificate has run out are not waited for.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from studio.v1.access_service_pb2 import Authority

Phase = Authority.Phase

TRANSITIONS: dict[Phase.ValueType, Phase.ValueType | None] = {
    Authority.PHASE_TRUSTED: Authority.PHASE_SIGNING,
    Authority.PHASE_SIGNING: Authority.PHASE_RETIRING,
    Authority.PHASE_RETIRING: None,
}


@dataclass(frozen=True)
class Standing:
    """One authority in its phase."""

    fingerprint: str
    phase: Phase.ValueType


@dataclass(frozen=True)
class Holder:
    """A node with a certificate that is still good."""

    name: str
    signed_by: str
    trusts: frozenset[str]


@dataclass(frozen=True)
class Step:
    """What a rotation does next: the new phase of each authority that it changes; None: it goes."""

    changes: dict[str, Phase.ValueType | None]
    # Nothing follows the signing one yet: a new authority is made, and trusted.
    makes_new: bool = False
    # Nodes that the step would cut off.
    waits_for: tuple[str, ...] = ()


def next_step(standings: Sequence[Standing], holders: Sequence[Holder]) -> Step:
    """The one step that comes next. There is always one; whether it may be taken now is told by ``waits_for``."""
    by_phase = {one.phase: one.fingerprint for one in standings}
    retiring = by_phase.get(Authority.PHASE_RETIRING)
    if retiring is not None:
        waits = tuple(holder.name for holder in holders if holder.signed_by == retiring)
        return Step({retiring: None}, waits_for=waits)
    trusted, signing = by_phase.get(Authority.PHASE_TRUSTED), by_phase.get(Authority.PHASE_SIGNING)
    if trusted is not None:
        waits = tuple(holder.name for holder in holders if trusted not in holder.trusts)
        changed = [fingerprint for fingerprint in (trusted, signing) if fingerprint is not None]
        phases = {one.fingerprint: TRANSITIONS[one.phase] for one in standings}
        return Step({fingerprint: phases[fingerprint] for fingerprint in changed}, waits_for=waits)
    return Step({}, makes_new=True)
