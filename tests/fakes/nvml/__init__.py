"""A stand-in for NVIDIA's library, read through the real binding: for hosts and tests without a GPU.

    with FakeNvml(tmp_path) as nvml:
        nvml.add_gpu(power=250_000)
        process = start_agent(env=os.environ | nvml.env())
        nvml.set("gpu.0.temperature", 91)
        nvml.raise_xid(0, 79)

``nvml.c`` is compiled once for each set of missing functions and kept in a cache folder. Everything else is a text file
that is replaced at once, so it can change while an agent runs. Keys: those of ``GPU`` below, prefixed ``gpu.SLOT.``;
``count``, ``order`` ("1,0": which slot stands at which index), ``driver``; ``hang.FUNCTION``, ``error.FUNCTION``;
``gpu.SLOT.lost``; ``gpu.SLOT.mig.INSTANCE.KEY``. Value "na": not supported; "unset": NVML's own mark for no value.
"""

import hashlib
import os
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Self

SOURCE = Path(__file__).with_name("nvml.c")
GIB = 1 << 30

# What a GPU has unless told otherwise. Power in mW, energy in mJ, memory in bytes, clocks in MHz, utilization in percent.
GPU: dict[str, str | int] = {
    "name": "Stand-in 24G",
    "capability": "8.9",
    "memory.total": 24 * GIB,
    "memory.used": GIB,
    "memory.reserved": GIB // 4,
    "utilization": 0,
    "power": 50_000,
    "power.limit": 300_000,
    "energy": 1_000_000,
    "temperature": 40,
    "clock.sm": 1400,
    "clock.memory": 7000,
    "clock.reasons": 0,
    "ecc.uncorrected": 0,
    # Corrected, uncorrected, pending, failed.
    "remapped": "0,0,0,0",
    "processes": "",
    "events": 0xC00B,
    # Recovery action: none.
    "field.230": 0,
}
XID_EVENT = 8


class FakeNvml:
    """One host's GPUs. ``missing`` are functions that this driver does not have."""

    def __init__(self, folder: Path, missing: Iterable[str] = ()) -> None:
        self._folder = folder
        self._state_file = folder / "nvml.state"
        self._missing = sorted(missing)
        self._values: dict[str, str | int] = {"driver": "580.95.05", "count": 0}
        self._events = 0

    def __enter__(self) -> Self:
        self._library = built(self._missing)
        self._write()
        return self

    def __exit__(self, *_: object) -> None:
        # A function that hangs does so only while the file says so: nothing is left behind.
        self._state_file.unlink(missing_ok=True)

    def env(self) -> dict[str, str]:
        """What a process needs in its environment to find this library and these GPUs."""
        paths = [str(self._library.parent), os.environ.get("LD_LIBRARY_PATH", "")]
        return {"STUDIO_FAKE_NVML": str(self._state_file), "LD_LIBRARY_PATH": ":".join(filter(None, paths))}

    def add_gpu(self, uuid: str = "", **values: str | int) -> str:
        """Add a GPU and return its UUID; in ``values``, "_" stands for "."."""
        slot = int(self._values["count"])
        uuid = uuid or f"GPU-{slot:08d}-0000-0000-0000-000000000000"
        given = {name.replace("_", "."): value for name, value in values.items()}
        # A PCI domain that no host has.
        of_this_one = {"uuid": uuid, "pci": f"00007FFF:{slot + 1:02X}:00.0"}
        gpu = GPU | of_this_one | given
        self.set_all({"count": slot + 1} | {f"gpu.{slot}.{name}": value for name, value in gpu.items()})
        return uuid

    def set(self, key: str, value: str | int) -> None:
        """Change one value."""
        self.set_all({key: value})

    def set_all(self, values: dict[str, str | int]) -> None:
        """Change several values at once."""
        self._values |= values
        self._write()

    def unset(self, key: str) -> None:
        """Take a value away."""
        self._values.pop(key, None)
        self._write()

    def raise_xid(self, slot: int, number: int) -> None:
        """Have the driver report an XID to everyone who waits for one."""
        self._events += 1
        self.set(f"event.{self._events}", f"{slot} {XID_EVENT} {number}")

    def hang(self, function: str) -> None:
        """From now on ``function`` does not return, until `unset("hang.FUNCTION")`."""
        self.set(f"hang.{function}", 1)

    def _write(self) -> None:
        temporary = self._state_file.with_suffix(".new")
        temporary.write_text("".join(f"{key} {value}\n" for key, value in self._values.items()), encoding="ascii")
        temporary.replace(self._state_file)


def built(missing: Iterable[str] = ()) -> Path:
    """The compiled library without the functions ``missing``; raises CalledProcessError."""
    hidden = "".join(f"{function};" for function in missing)
    script = "{ global: nvml*; local: " + hidden + " *; };"
    digest = hashlib.sha256(SOURCE.read_bytes() + script.encode()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"studio-fake-nvml-{os.getuid()}" / digest
    library = folder / "libnvidia-ml.so.1"
    if library.exists():
        return library
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    # Test processes may build at the same time: each in its own file, the last one stays.
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        version_script, output = Path(scratch) / "symbols", Path(scratch) / library.name
        version_script.write_text(script, encoding="ascii")
        compiler = ["/usr/bin/cc", "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", str(SOURCE)]
        subprocess.run([*compiler, f"-Wl,--version-script={version_script}", "-o", str(output)], check=True)
        output.replace(library)
    return library
