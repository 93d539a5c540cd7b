"""Exactly one process: wait for it, signal it. A pid alone may be another process by the time it is used."""

import asyncio
import os
import signal

from studio_runtime.process import ProcessIdentity


async def ended(identity: ProcessIdentity) -> None:
    """Return as soon as the process has ended; at once when it is not there."""
    descriptor = _open(identity)
    if descriptor is None:
        return
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(descriptor, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def send(identity: ProcessIdentity, number: signal.Signals) -> bool:
    """Send a signal to this very process; False when it is not there."""
    descriptor = _open(identity)
    if descriptor is None:
        return False
    try:
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True


def _open(identity: ProcessIdentity) -> int | None:
    """A descriptor that stays with this process: the identity is compared while the descriptor pins it."""
    try:
        descriptor = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return None
    if identity.is_running():
        return descriptor
    os.close(descriptor)
    return None
