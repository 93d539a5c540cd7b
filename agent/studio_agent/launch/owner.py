"""Which replica a process belongs to: by the cgroup it is in, else by the token in its environment."""

from pathlib import Path

from studio_agent.launch.proc_scan import token_of


def replica_of(pid: int, host_id: str) -> str:
    """The replica's id; "" for a stranger."""
    token = _cgroup_token(pid, host_id) or token_of(pid, host_id)
    return token.rsplit(".", 2)[0]


def _cgroup_token(pid: int, host_id: str) -> str:
    """An engine may overwrite its environment when it renames itself; its cgroup it cannot."""
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    path = next((line[3:] for line in lines if line.startswith("0::")), "")
    _, found, rest = path.partition(f"/vllm-studio/{host_id}/")
    return rest.partition("/")[0] if found else ""
