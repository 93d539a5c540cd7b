"""Looking at the engines' units of a host, and freezing one from outside it."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from fleet.hosts import HIERARCHIES, Host

# The version 1 freezer: what is frozen there takes no signal, SIGKILL included, as a process in a stuck driver call.
FREEZER = Path("/sys/fs/cgroup/freezer")
REAPED_SECONDS = 20.0


@dataclass(frozen=True)
class EngineUnit:
    name: str
    active: str
    main_pid: int
    invocation: str


def engine_units(host: Host) -> list[EngineUnit]:
    """Every engine unit that the host's systemd knows."""
    fields = ("Id", "ActiveState", "MainPID", "InvocationID")
    shown = host.call("systemctl", "show", f"--property={','.join(fields)}", "studio-engine@*.service").output
    units = []
    for block in shown.strip().split("\n\n"):
        values = dict(line.split("=", 1) for line in block.splitlines())
        if values:
            units.append(
                EngineUnit(values["Id"], values["ActiveState"], int(values["MainPID"]), values["InvocationID"])
            )
    return units


@contextmanager
def frozen(host: Host, unit: str) -> Iterator[None]:
    """The unit's processes neither run nor die while the block runs."""
    group = FREEZER / f"studio-fleet-frozen-{os.getpid()}"
    group.mkdir()
    state = group / "freezer.state"
    try:
        for pid in _pids_outside(host, unit):
            (group / "cgroup.procs").write_text(str(pid))
        state.write_text("FROZEN")
        yield
    finally:
        state.write_text("THAWED")
        for pid in (group / "cgroup.procs").read_text().split():
            with suppress(ProcessLookupError):
                (FREEZER / "cgroup.procs").write_text(pid)
        _remove(group)


def _remove(group: Path) -> None:
    """Remove it once what died in it is reaped: until then it is busy."""
    deadline = time.monotonic() + REAPED_SECONDS
    while True:
        try:
            group.rmdir()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def _pids_outside(host: Host, unit: str) -> list[int]:
    """The unit's processes as this machine counts them."""
    (folder,) = (
        found
        for hierarchy in HIERARCHIES
        for found in hierarchy.glob(f"studio-fleet-{host.name}-{os.getpid()}/payload/studio.slice/*/{unit}")
    )
    return [int(pid) for pid in (folder / "cgroup.procs").read_text().split()]
