"""What a certificate that is to be renewed says of its caller.

1. The newest one, or a newer one than is on record (the database was restored from a backup): renewed, with the next generation.
2. The one before, with the key of the newest: the answer was lost on its way, and is given again.
3. One from before the last join: what was left behind of an earlier life. It is refused, and says nothing of the present holder.
4. Any other: somebody went on with this identity already. Two machines hold it, and no certificate tells which is the right one:
   both are refused until an operator lets one of them join again.
"""

from enum import Enum

from studio_coordinator.store.identities import IdentityRow


class Verdict(Enum):
    """What to do with a renewal."""

    NEXT = "next"
    AGAIN = "again"
    REFUSE = "refuse"
    LOCK = "lock"


def judge(stored: IdentityRow, presented_generation: int, requested_key: str) -> Verdict:
    """The verdict on a renewal of generation ``presented_generation`` for the key with fingerprint ``requested_key``."""
    newest = stored.identity.generation
    if presented_generation < stored.joined_generation:
        return Verdict.REFUSE
    if presented_generation >= newest:
        return Verdict.NEXT
    if presented_generation == newest - 1 and requested_key == stored.key_fingerprint:
        return Verdict.AGAIN
    return Verdict.LOCK


def judge_call(stored: IdentityRow, presented_generation: int) -> Verdict:
    """The verdict on a node that opens a stream: NEXT where it may go on.

    The last but one may come from the right machine: it was renewed, and the answer is still on its way.
    """
    if presented_generation < stored.joined_generation:
        return Verdict.REFUSE
    return Verdict.NEXT if presented_generation >= stored.identity.generation - 1 else Verdict.LOCK
