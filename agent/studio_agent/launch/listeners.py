"""Whose socket listens on a port: an answer from there proves nothing until it is known that the engine gives it."""

import contextlib
from collections.abc import Iterable
from pathlib import Path

LISTEN = "0A"
TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))


def is_foreign(port: int, pids: Iterable[int]) -> bool:
    """Whether ``port`` is listened on, and by none of ``pids``. What cannot be read counts as ours."""
    sockets = _listening(port)
    if not sockets:
        return False
    readable = False
    for pid in pids:
        with contextlib.suppress(OSError):
            for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                readable = True
                with contextlib.suppress(OSError):
                    if str(descriptor.readlink()) in sockets:
                        return False
    return readable


def _listening(port: int) -> set[str]:
    sockets = set()
    for table in TABLES:
        with contextlib.suppress(OSError):
            for line in table.read_text(encoding="ascii").splitlines()[1:]:
                fields = line.split()
                if fields[3] == LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                    sockets.add(f"socket:[{fields[9]}]")
    return sockets
