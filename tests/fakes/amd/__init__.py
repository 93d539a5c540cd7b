"""A host with AMD GPUs: a stand-in for the binding ``amdsmi`` (not for the library below it) in the sampler's child.

amd = FakeAmd(tmp_path)
uuid = amd.add_gpu(amdsmi_get_gpu_activity={"gfx_activity": 40, ...})
process = start_agent(env=os.environ | amd.env())
"""

import json
import os
from pathlib import Path
from typing import Any

GIB = 1 << 30

# What a GPU answers unless told otherwise.
GPU: dict[str, Any] = {
    "amdsmi_get_gpu_driver_info": {"driver_name": "amdgpu", "driver_version": "6.14.14", "driver_date": "N/A"},
    "amdsmi_get_gpu_asic_info": {"market_name": "Stand-in 64G", "target_graphics_version": "gfx90a"},
    "amdsmi_get_gpu_memory_total VRAM": 64 * GIB,
    "amdsmi_get_gpu_memory_usage VRAM": GIB,
    "amdsmi_get_gpu_activity": {"gfx_activity": 73, "umc_activity": 10, "mm_activity": "N/A"},
    "amdsmi_get_power_info": {"current_socket_power": 250, "average_socket_power": "N/A", "power_limit": 560},
    "amdsmi_get_power_cap_info": {"power_cap": 560_000_000},
    "amdsmi_get_energy_count": {"energy_accumulator": 2_000_000, "counter_resolution": 15.5, "timestamp": 1},
    "amdsmi_get_temp_metric EDGE": 41,
    "amdsmi_get_temp_metric HOTSPOT": 55,
    "amdsmi_get_clock_info GFX": {"clk": 1700, "min_clk": 500, "max_clk": 1700},
    "amdsmi_get_clock_info MEM": {"clk": 1600, "min_clk": 400, "max_clk": 1600},
    "amdsmi_get_gpu_total_ecc_count": {"correctable_count": 9, "uncorrectable_count": 2, "deferred_count": 0},
    "amdsmi_get_gpu_process_list": [],
}


class FakeAmd:
    """One host's GPUs; ``state`` are further keys of the file that the binding reads."""

    def __init__(self, folder: Path, **state: Any) -> None:
        self._folder = folder
        self._file = folder / "amdsmi.json"
        self._state: dict[str, Any] = {"gpus": [], **state}
        # Whatever the machine has: NVML's library cannot be loaded.
        (folder / "libnvidia-ml.so.1").touch()
        self._write()

    def env(self) -> dict[str, str]:
        """What a process needs in its environment to find these GPUs and no others."""

        def before(folder: str | Path, variable: str) -> str:
            return ":".join(filter(None, (str(folder), os.environ.get(variable, ""))))

        return {
            "STUDIO_FAKE_AMDSMI": str(self._file),
            "PYTHONPATH": before(Path(__file__).parent, "PYTHONPATH"),
            "LD_LIBRARY_PATH": before(self._folder, "LD_LIBRARY_PATH"),
        }

    def add_gpu(self, **answers: Any) -> str:
        """Add a GPU and return its UUID. An answer of None: not supported."""
        slot = len(self._state["gpus"])
        uuid = f"GPU-{slot + 1:016x}"
        gpu = GPU | {
            "amdsmi_get_gpu_enumeration_info": {"hip_id": slot, "hip_uuid": uuid},
            "amdsmi_get_gpu_device_bdf": f"7fff:{slot + 1:02x}:00.0",
        }
        self._state["gpus"].append({})
        self.set(slot, **gpu | answers)
        return uuid

    def set(self, slot: int, **answers: Any) -> None:
        """Change what a GPU answers."""
        gpu = self._state["gpus"][slot] | answers
        self._state["gpus"][slot] = {key: value for key, value in gpu.items() if value is not None}
        self._write()

    def change(self, **state: Any) -> None:
        """Change what is not of one GPU."""
        self._state |= state
        self._write()

    def remove_last(self) -> None:
        """The driver no longer lists the last GPU."""
        self._state["gpus"].pop()
        self._write()

    def _write(self) -> None:
        temporary = self._file.with_suffix(".new")
        temporary.write_text(json.dumps(self._state), encoding="utf-8")
        temporary.replace(self._file)
