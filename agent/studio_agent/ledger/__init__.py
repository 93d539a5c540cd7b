"""The agent's memory.

ledger  ``Ledger``: what the agent must remember over its own death
store   ``LedgerStore``: where that is kept, in ``FileStore`` a file
"""

from studio_agent.ledger.ledger import Ledger
from studio_agent.ledger.store import FileStore, LedgerStore

__all__ = ["FileStore", "Ledger", "LedgerStore"]
