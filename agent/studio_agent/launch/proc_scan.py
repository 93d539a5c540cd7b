"""Reading /proc: which live processes belong to an engine."""

from collections.abc import Iterator
from pathlib import Path

from studio_runtime.process import ProcessIdentity

# In the environment of every process of an engine's tree.
TOKEN_VARIABLE = "STUDIO_REPLICA"  # noqa: S105 - the name of a variable, and its value is no secret
HOST_VARIABLE = "STUDIO_HOST"


def pids() -> Iterator[int]:
    """Every pid that is there now."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            yield int(entry.name)


def token_of(pid: int, host_id: str) -> str:
    """The token of the engine of this host that ``pid`` belongs to; "" when it is none, or not ours to read."""
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return ""
    if f"{HOST_VARIABLE}={host_id}".encode() not in environment:
        return ""
    prefix = f"{TOKEN_VARIABLE}=".encode()
    for pair in environment.split(b"\0"):
        if pair.startswith(prefix):
            return pair[len(prefix) :].decode("utf-8", "replace")
    return ""


def session_of(pid: int) -> int:
    """The session that ``pid`` is in; 0 where there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    return int(stat.rpartition(")")[2].split()[3])


def session_members(leader: ProcessIdentity) -> list[ProcessIdentity]:
    """The live processes of the session that ``leader`` opened, with or without the leader itself.

    A session's number stays taken while anyone is in it, so a new process with the leader's pid means a new session.
    """
    now_leading = ProcessIdentity.of(leader.pid)
    if now_leading is not None and now_leading != leader:
        return []
    found = (ProcessIdentity.of(pid) for pid in pids() if session_of(pid) == leader.pid)
    return [identity for identity in found if identity is not None and identity.start_ticks >= leader.start_ticks]


def token_members(token: str, host_id: str) -> list[ProcessIdentity]:
    """The live processes that carry ``token``."""
    found = (ProcessIdentity.of(pid) for pid in pids() if token_of(pid, host_id) == token)
    return [identity for identity in found if identity is not None]
