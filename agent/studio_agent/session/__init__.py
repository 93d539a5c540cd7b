"""The control stream to the coordinator, over as many connections as it takes.

connection   ``keep_connected``: dial, converse, wait, dial again
coordinators which of several coordinators to dial
conversation one connection: Hello, Welcome, then both directions until it ends
outbox       what is to be sent next: one slot for each kind, never a queue that grows
log_pulls    logs that somebody reads
reconnect    how long to wait before the next try
hello        the first message: who this host is and what it runs
"""

from studio_agent.session.connection import keep_connected
from studio_agent.session.conversation import Conversation
from studio_agent.session.hello import HostIdentity

__all__ = ["Conversation", "HostIdentity", "keep_connected"]
