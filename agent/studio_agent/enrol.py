"""How this host gets its identity, and that its engines are known by it.

Engines carry the host's id (cgroups, tokens), so an agent cannot simply become another host: while engines of the earlier id
run, it stays what it was and says so.
"""

import argparse
import socket

from studio.v1.identity_service_pb2 import Identity
from studio_runtime.errors import SafetyError

from studio_agent.ledger import FileStore, Ledger
from studio_agent.settings import StateFolder


def join(parsed: argparse.Namespace) -> None:
    """``studio-agent join``. Raises StudioError."""
    from studio_runtime.identity.command import run_join  # noqa: PLC0415 - as in assembly

    state = StateFolder(parsed.state_dir)
    run_join(parsed, Identity.KIND_AGENT, parsed.host_name or socket.gethostname(), state.identity)
    agree_on_host_id(state)


def agree_on_host_id(state: StateFolder) -> None:
    """Make the certificate's id this host's. Raises SafetyError where engines run that were started under another one."""
    if not state.identity.exists:
        return
    proven = state.identity.load().name.id
    if not state.has_host_id:
        state.keep_host_id(proven)
    elif (known := state.host_id()) != proven:
        engines = [
            record for record in Ledger.load(FileStore(state.ledger)).records.values() if record.engine is not None
        ]
        if engines:
            raise SafetyError(
                f"this host joined as {proven}, and {len(engines)} engines run here that were started as {known}",
                "They go on serving. Stop them with `studio-agent stop-engines`, then start the agent again.",
            )
        state.keep_host_id(proven)
