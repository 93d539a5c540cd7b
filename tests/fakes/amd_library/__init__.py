"""A host with AMD GPUs: a stand-in for AMD's library itself, read through its real binding ``amdsmi``.

    with FakeAmdLibrary(tmp_path) as amd:
        uuid = amd.add_gpu()
        amd.set(0, "amdsmi_get_gpu_activity", amd.structs.amdsmi_engine_usage_t(gfx_activity=40))
        process = start_agent(env=os.environ | amd.env())

What a function gives out is a struct of the binding's own, byte by byte. Functions that take a kind of something have it after
a dot: ``amdsmi_get_gpu_memory_usage.0``.
"""

import ctypes
import hashlib
import importlib
import os
import re
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, Self
from unittest import mock

SOURCE = Path(__file__).with_name("amd_smi.c")
LOOKED_UP = re.compile(r"_libraries\['libamd_smi\.so'\]\.(\w+)")
GIB = 1 << 30
NO_DRIVER = 34


def is_installed() -> bool:
    """Whether the binding is there to be tested."""
    return find_spec("amdsmi") is not None


class FakeAmdLibrary:
    """One host's GPUs. Nothing else finds this library: it is named in the environment."""

    def __init__(self, folder: Path) -> None:
        self._answers = folder / "amd"
        self._answers.mkdir()
        # Whatever the machine has: NVML's library cannot be loaded.
        (folder / "libnvidia-ml.so.1").touch()
        self._no_nvml = folder
        self._gpus = 0

    def __enter__(self) -> Self:
        self._root = built()
        self.structs = _structs(self._root)
        return self

    def __exit__(self, *_: object) -> None:
        return

    def env(self) -> dict[str, str]:
        """What a process needs in its environment to find this library and these GPUs."""
        libraries = ":".join(filter(None, (str(self._no_nvml), os.environ.get("LD_LIBRARY_PATH", ""))))
        return {
            "STUDIO_FAKE_AMD": str(self._answers),
            "ROCM_PATH": str(self._root),
            "LD_LIBRARY_PATH": libraries,
        }

    def fail(self, error: int) -> None:
        """The library cannot be initialized; 0: it can."""
        (self._answers / "init").write_text(str(error), encoding="ascii")

    def add_gpu(self) -> str:
        """Add a GPU that answers everything, and return its UUID."""
        slot, of = self._gpus, self.structs
        self._gpus += 1
        uuid = f"GPU-{slot + 1:016x}"
        bdf = of.amdsmi_bdf_t()
        bdf.struct_amdsmi_bdf_t.domain_number, bdf.struct_amdsmi_bdf_t.bus_number = 0x7FFF, slot + 1
        answers: dict[str, Any] = {
            "amdsmi_get_gpu_driver_info": of.amdsmi_driver_info_t(driver_version=b"6.14.14"),
            "amdsmi_get_gpu_asic_info": of.amdsmi_asic_info_t(market_name=b"Stand-in 64G"),
            "amdsmi_get_gpu_activity": of.amdsmi_engine_usage_t(gfx_activity=73),
            "amdsmi_get_power_info": of.amdsmi_power_info_t(current_socket_power=250, average_socket_power=0xFFFF),
            "amdsmi_get_power_cap_info.0": of.amdsmi_power_cap_info_t(power_cap=560_000_000),
            "amdsmi_get_gpu_total_ecc_count": of.amdsmi_error_count_t(uncorrectable_count=2),
            "amdsmi_get_gpu_enumeration_info": of.amdsmi_enumeration_info_t(hip_id=slot, hip_uuid=uuid.encode()),
            "amdsmi_get_gpu_device_bdf": bdf,
            "amdsmi_get_gpu_memory_total.0": ctypes.c_uint64(64 * GIB),
            "amdsmi_get_gpu_memory_usage.0": ctypes.c_uint64(GIB),
            f"amdsmi_get_clock_info.{of.AMDSMI_CLK_TYPE_GFX}": of.amdsmi_clk_info_t(clk=1700),
            f"amdsmi_get_clock_info.{of.AMDSMI_CLK_TYPE_MEM}": of.amdsmi_clk_info_t(clk=1600),
            f"amdsmi_get_temp_metric.{of.AMDSMI_TEMPERATURE_TYPE_EDGE}": ctypes.c_int64(41),
            f"amdsmi_get_temp_metric.{of.AMDSMI_TEMPERATURE_TYPE_HOTSPOT}": ctypes.c_int64(55),
        }
        for function, given in answers.items():
            self.set(slot, function, given)
        self.set(slot, "amdsmi_get_energy_count", ctypes.c_uint64(2_000_000), ctypes.c_float(15.5), ctypes.c_uint64(1))
        self.set(slot, "amdsmi_get_gpu_process_list", ctypes.c_uint32(0))
        return uuid

    def a_process(self, pid: int, vram_bytes: int) -> Any:
        """An entry of the process list."""
        process = self.structs.amdsmi_proc_info_t(pid=pid, name=b"engine")
        process.memory_usage.vram_mem = vram_bytes
        return process

    def set(self, slot: int, function: str, *given: Any) -> None:
        """What ``function`` writes for a GPU."""
        file = self._answers / str(slot) / function
        file.parent.mkdir(exist_ok=True)
        temporary = self._answers / "new"
        temporary.write_bytes(b"".join(bytes(each) for each in given))
        temporary.replace(file)

    def unset(self, slot: int, function: str) -> None:
        """``function`` is not supported for a GPU."""
        (self._answers / str(slot) / function).unlink()


def built() -> Path:
    """The folder with ``lib/libamd_smi.so``, which has every function that the binding looks up. Raises CalledProcessError."""
    spec = find_spec("amdsmi")
    assert spec is not None
    assert spec.origin is not None
    wrapper = Path(spec.origin).with_name("amdsmi_wrapper.py").read_text(encoding="utf-8")
    own = SOURCE.read_text(encoding="utf-8")
    others = sorted(name for name in set(LOOKED_UP.findall(wrapper)) if not re.search(rf"\b{name}\(", own))
    others = [name for name in others if f"({name})" not in own]
    source = own + "".join(f"int {name}(void) {{ return NOT_SUPPORTED; }}\n" for name in others)
    digest = hashlib.sha256(source.encode()).hexdigest()[:16]
    root = Path(tempfile.gettempdir()) / f"studio-fake-amd-{os.getuid()}" / digest
    library = root / "lib" / "libamd_smi.so"
    if library.exists():
        return root
    library.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # Test processes may build at the same time: each in its own file, the last one stays.
    with tempfile.TemporaryDirectory(dir=root) as scratch:
        file, output = Path(scratch) / "amd_smi.c", Path(scratch) / library.name
        file.write_text(source, encoding="utf-8")
        compiler = ["/usr/bin/cc", "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", str(file)]
        subprocess.run([*compiler, "-o", str(output)], check=True)
        output.replace(library)
    return root


def _structs(root: Path) -> ModuleType:
    """The binding's own structs and numbers; it loads its library when it is imported."""
    with mock.patch.dict(os.environ, {"ROCM_PATH": str(root)}):
        return importlib.import_module("amdsmi.amdsmi_wrapper")
