"""cgroup-v2 folders, one for each engine: what is in one is killed by one write, whatever it forked.

The engines' folders lie under ``vllm-studio`` at the root of the hierarchy where that may be written, else below the agent's own
cgroup. Where neither is possible (no cgroup v2, not delegated), engines go without and their session and token must do.
"""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from studio_runtime.process import ProcessIdentity

# The usual place, and the one of hosts that still mount the version 1 controllers.
MOUNTS = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"))


@dataclass(frozen=True)
class EngineCgroups:
    """The folder that holds this host's engines; None: there is none to be had."""

    root: Path | None

    @classmethod
    def prepare(cls, host_id: str) -> "EngineCgroups":
        """Find a place where the host's folder can be made; it is there only while an engine is."""
        mount = next((path for path in MOUNTS if (path / "cgroup.procs").exists()), None)
        if mount is None:
            return cls(None)
        for base in (mount / "vllm-studio", mount / _own_path() / "vllm-studio"):
            folder = base / host_id
            try:
                folder.mkdir(parents=True, exist_ok=True)
                with (folder / "cgroup.procs").open("a"):
                    pass
                with contextlib.suppress(OSError):
                    folder.rmdir()
                return cls(folder)
            except OSError:
                continue
        return cls(None)

    def path_for(self, token: str) -> str:
        """Where the engine with ``token`` goes; "" without cgroups."""
        return "" if self.root is None else str(self.root / token)

    def tokens(self) -> list[str]:
        """The tokens of all engines that have a folder."""
        if self.root is None or not self.root.is_dir():
            return []
        return [path.name for path in self.root.iterdir() if path.is_dir()]


def create(path: str) -> None:
    """Make the folder of one engine. Raises OSError."""
    if path:
        Path(path).mkdir(parents=True, exist_ok=True)


def processes(path: str) -> list[ProcessIdentity]:
    """The live processes of an engine's folder and of folders it made below."""
    listed: list[ProcessIdentity] = []
    for folder in _folders(path):
        with contextlib.suppress(OSError):
            procs = (folder / "cgroup.procs").read_text(encoding="ascii")
            found = (ProcessIdentity.of(int(pid)) for pid in procs.split())
            listed += [identity for identity in found if identity is not None]
    return listed


def kill(path: str) -> None:
    """SIGKILL everything in the folder at once, where the kernel can (5.14 and later)."""
    if path:
        with contextlib.suppress(OSError):
            (Path(path) / "cgroup.kill").write_text("1", encoding="ascii")


def remove(path: str) -> None:
    """Remove an engine's folder, and its host's with the last one; a folder stays while a process is in it."""
    if not path:
        return
    for folder in sorted(_folders(path), reverse=True):
        with contextlib.suppress(OSError):
            folder.rmdir()
    with contextlib.suppress(OSError):
        Path(path).parent.rmdir()


def _folders(path: str) -> list[Path]:
    """An engine's folder and those below; the kernel and systemd may remove any of them meanwhile."""
    return [Path(folder) for folder, _, _ in os.walk(path)] if path else []


def _own_path() -> str:
    for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
        if line.startswith("0::"):
            return line[3:].lstrip("/")
    return ""
