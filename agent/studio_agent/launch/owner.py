"""Which replica a process belongs to: by the cgroup it is in, else by the token in its environment."""

from pathlib import Path

from studio_agent.launch.proc_scan import token_of
from studio_agent.launch.systemd import PREFIX, SLICE, SUFFIX


def replica_of(pid: int, host_id: str) -> str:
    """The replica's id; "" for a stranger."""
    # An engine may overwrite its environment when it renames itself, and a unit's is another user's; its cgroup it cannot.
    token = token_in(_cgroup_of(pid), host_id) or token_of(pid, host_id)
    return token.rsplit(".", 2)[0]


def token_in(path: str, host_id: str) -> str:
    """The token of the engine whose cgroup ``path`` is, or lies in; "" for any other.

    Units belong to the one agent that systemd runs on this host; only root makes any in their slice.
    """
    unit, found, _ = path.removeprefix(f"/{SLICE}/{PREFIX}").partition(SUFFIX)
    if found and path.startswith(f"/{SLICE}/{PREFIX}") and "/" not in unit:
        return unit
    _, found, rest = path.partition(f"/vllm-studio/{host_id}/")
    return rest.partition("/")[0] if found else ""


def _cgroup_of(pid: int) -> str:
    """Its place in the hierarchy of version 2; "" where there is none, or no such process."""
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line[3:] for line in lines if line.startswith("0::")), "")
