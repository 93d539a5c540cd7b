"""What the child must know of the host itself, read from /proc: psutil would add a tenth to the child's size."""

import pwd
from pathlib import Path

KIB = 1024


def memory_bytes() -> tuple[int, int]:
    """The host's memory: total, and what programs could still get. Raises OSError."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    kib = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
    return kib["MemTotal"] * KIB, kib["MemAvailable"] * KIB


def program_of(pid: int) -> tuple[str, str]:
    """The name of the program that ``pid`` runs, and its user. Raises OSError where there is none."""
    folder = Path(f"/proc/{pid}")
    name = (folder / "comm").read_text(encoding="utf-8", errors="replace").rstrip("\n")
    first = (folder / "cmdline").read_bytes().partition(b"\0")[0].decode("utf-8", "replace")
    # The kernel keeps 15 characters; the rest is in the arguments, unless the program has given itself another name.
    whole = first.rpartition("/")[2]
    uid = folder.stat().st_uid
    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:
        user = str(uid)
    return (whole if whole.startswith(name) else name), user
