"""Real systemd hosts on this machine: booted from one shared file system, each with its own changes, network and process tree.

A host is a container that ``systemd-nspawn`` boots: PID 1 is systemd, units and polkit are the distribution's own. It can be
powered off and booted again (its disk stays), cut from the network, and looked into.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fleet.network import Cable

BOOT_SECONDS = 60.0
OFF_SECONDS = 30.0
POLL_SECONDS = 0.1
UP = ("running", "degraded")
# Two hosts must not share a cgroup: join those before the "--", then become what follows it.
JOIN = """
import os, sys
end = sys.argv.index("--")
for group in sys.argv[1:end]:
    with open(group + "/cgroup.procs", "w") as procs:
        procs.write("0")
os.execvp(sys.argv[end + 1], sys.argv[end + 1:])
"""
# Where this machine mounts what a host's cgroup is made in: version 2, and systemd's own of version 1 where that is still there.
HIERARCHIES = tuple(
    path
    for path in (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup/systemd"))
    if (path / "cgroup.procs").exists()
)


@dataclass(frozen=True)
class Ran:
    """A command that ended."""

    code: int
    output: str
    # What it printed on standard error.
    problems: str

    def ok(self) -> str:
        """Its output; fails the test when it did not end well."""
        assert self.code == 0, f"exit code {self.code}\n{self.output}\n{self.problems}"
        return self.output.strip()


@dataclass
class Host:
    """A host; off until ``boot``."""

    name: str
    base: Path
    folder: Path
    cable: Cable
    # Folders of this machine that the host sees, read-only: from here to there.
    binds: dict[Path, str] = field(default_factory=dict)
    # Whose it is: hosts of two runs may have one name.
    _owner: int = field(default_factory=os.getpid)
    _process: subprocess.Popen[bytes] | None = None
    _leader: int = 0

    @property
    def root(self) -> Path:
        """The host's whole file system, also while it is off."""
        return self.folder / "root"

    @property
    def address(self) -> str:
        """Where other hosts and this machine reach it."""
        return self.cable.address

    @property
    def pid(self) -> int:
        """Its PID 1, as this machine counts."""
        return self._leader

    def make_disk(self) -> None:
        """Lay the host's own layer over the shared one. Raises CalledProcessError."""
        for part in ("changes", "work", "root"):
            (self.folder / part).mkdir(parents=True)
        layers = f"lowerdir={self.base},upperdir={self.folder / 'changes'},workdir={self.folder / 'work'}"
        _run("mount", "-t", "overlay", "overlay", "-o", layers, str(self.root))
        (self.root / "etc/hostname").write_text(f"{self.name}\n")

    def boot(self) -> None:
        """Boot, and return once systemd says that the host is up."""
        assert self._process is None, f"{self.name} is on"
        argv = [sys.executable, "-I", "-S", "-c", JOIN, *map(str, self._cgroups()), "--"]
        argv += ["systemd-nspawn", "--quiet", f"--directory={self.root}", f"--machine={self.name}", "--boot"]
        argv += [f"--network-namespace-path=/run/netns/{self.cable.namespace}", "--register=no", "--keep-unit"]
        # Filters of units' networks are programs that systemd loads into the kernel.
        argv += ["--system-call-filter=bpf"]
        argv += ["--resolv-conf=off", "--timezone=off", "--link-journal=no", "--console=read-only"]
        argv += [f"--bind-ro={here}:{there}" for here, there in self.binds.items()]
        for group in self._cgroups():
            group.mkdir(exist_ok=True)
        with (self.folder / "console.log").open("ab") as console:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
                # As today's distributions have it, whatever this machine still mounts beside it.
                env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
            )
        self._until_up()

    def call(self, *argv: str, user: str = "root", timeout: float = 60.0) -> Ran:
        """Run a command in the host and wait for it."""
        whole = ["nsenter", "--target", str(self._leader), "--all", "--", *_as_user(user, argv)]
        ended = subprocess.run(
            whole, capture_output=True, text=True, timeout=timeout, check=False, stdin=subprocess.DEVNULL
        )
        return Ran(ended.returncode, ended.stdout, ended.stderr)

    async def run(self, *argv: str, user: str = "root", timeout: float = 60.0) -> Ran:
        """``call`` that leaves the event loop free."""
        return await asyncio.to_thread(self.call, *argv, user=user, timeout=timeout)

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Put a file on the host, on or off."""
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)

    def shut_down(self) -> None:
        """As an operator does."""
        self._end(signal.SIGTERM)

    def power_off(self) -> None:
        """As a power cut does: every process of the host is gone at once."""
        if self._leader:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._leader, signal.SIGKILL)
        self._end(None)

    def remove(self) -> None:
        """Power off and leave nothing behind."""
        self.power_off()
        if self.root.is_mount():
            _run("umount", str(self.root))
        shutil.rmtree(self.folder)

    def _end(self, number: signal.Signals | None) -> None:
        process, self._process, self._leader = self._process, None, 0
        if process is not None:
            if number is not None:
                process.send_signal(number)
            try:
                process.wait(OFF_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._remove_cgroups()

    def _cgroups(self) -> list[Path]:
        return [hierarchy / f"studio-fleet-{self.name}-{self._owner}" for hierarchy in HIERARCHIES]

    def _remove_cgroups(self) -> None:
        deadline = time.monotonic() + OFF_SECONDS
        for group in self._cgroups():
            while group.exists():
                for below in sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True):
                    with contextlib.suppress(OSError):
                        below.rmdir()
                with contextlib.suppress(OSError):
                    group.rmdir()
                    break
                assert time.monotonic() < deadline, f"processes are left in {group}"
                time.sleep(POLL_SECONDS)

    def _until_up(self) -> None:
        process, said = self._process, ""
        assert process is not None
        deadline = time.monotonic() + BOOT_SECONDS
        while True:
            self._leader = _init_below(process.pid)
            if self._leader:
                said = self.call("systemctl", "is-system-running").output.strip()
                if said in UP:
                    return
            if process.poll() is not None or time.monotonic() > deadline:
                console = (self.folder / "console.log").read_text(errors="replace")
                self.power_off()
                raise AssertionError(f"{self.name} did not boot ({said or 'no systemd'}); its console:\n{console}")
            time.sleep(POLL_SECONDS)


def _as_user(user: str, argv: Sequence[str]) -> list[str]:
    return list(argv) if user == "root" else ["runuser", "--user", user, "--", *argv]


def _init_below(pid: int) -> int:
    """The host's PID 1: the child of nspawn that is first in a namespace of its own; 0 before it is there."""
    with contextlib.suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            status = Path(f"/proc/{child}/status").read_text()
            numbers = next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[1:]
            if len(numbers) > 1 and numbers[-1] == "1":
                return int(child)
    return 0


def _run(*argv: str) -> None:
    subprocess.run(argv, check=True, capture_output=True)
