"""Which processes of this installation run now, kept on disk.

A supervisor that was killed leaves its roles to the kernel, which tells them to stop; that takes them a moment. The roster is
how the next ``up`` knows whom to wait for, and ``down`` what is still there, without ever mistaking a stranger for one of ours.
"""

import asyncio
import json
import os
import signal
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from studio_runtime.process import ProcessIdentity, boot_id, write_atomically

POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Roster:
    """The roster in ``file``: role name to process identity."""

    file: Path

    def write(self, running: dict[str, ProcessIdentity]) -> None:
        """Replace what is noted."""
        roles = {name: [identity.pid, identity.start_ticks] for name, identity in running.items()}
        write_atomically(self.file, json.dumps({"boot_id": boot_id(), "roles": roles}).encode())

    def running(self) -> dict[str, ProcessIdentity]:
        """Those noted that still run; nothing where the file is absent, broken, or from before the last boot."""
        try:
            content = json.loads(self.file.read_text(encoding="utf-8"))
            noted = {name: ProcessIdentity(int(pid), int(ticks)) for name, (pid, ticks) in content["roles"].items()}
            same_boot = content["boot_id"] == boot_id()
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}
        return {name: identity for name, identity in noted.items() if identity.is_running()} if same_boot else {}

    def clear(self) -> None:
        """Note that nothing runs."""
        self.file.unlink(missing_ok=True)


async def until_gone(identities: Iterable[ProcessIdentity], seconds: float) -> list[ProcessIdentity]:
    """Wait until none of ``identities`` runs; returns those that still do after ``seconds``."""
    left = [identity for identity in identities if identity.is_running()]
    try:
        async with asyncio.timeout(seconds):
            while left:
                await asyncio.sleep(POLL_SECONDS)
                left = [identity for identity in left if identity.is_running()]
    except TimeoutError:
        pass
    return left


def send(identity: ProcessIdentity, number: signal.Signals) -> None:
    """Signal that very process; nothing happens when it is gone."""
    try:
        # While the descriptor is open the pid cannot go to another process: checked once, it stays true.
        descriptor = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return
    try:
        if identity.is_running():
            signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return
    finally:
        os.close(descriptor)
