"""What a pass of the leader's loop reads and writes, behind one small protocol.

========= =====================================================================================================
protocol  ``Ledger``: load a snapshot, commit a plan made on it, append an event; each is one transaction, or nothing
postgres  the installation's, in PostgreSQL
========= =====================================================================================================

The loop knows only the protocol; the deterministic simulation (``tests/sim``) runs the same loop over a ledger in memory.
"""

from studio_coordinator.ledger.protocol import Ledger, Loaded

__all__ = ["Ledger", "Loaded"]
