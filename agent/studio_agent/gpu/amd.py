"""AMD's SMI library as the child reads it; the only importer of its binding, `amdsmi`, which AMD's own software brings.

Functions are asked for by name, because an older binding lacks some; written against amdsmi 7.0.2. What it cannot tell,
in an exception, as "N/A" or as a number with all bits set, stays unset. It reports no XIDs and names no recovery
action: a GPU is healthy as long as it is listed.

A GPU is the UUID by which HIP knows it ("GPU-" and 16 hexadecimal digits), so that ``HIP_VISIBLE_DEVICES`` takes it;
`amdsmi_get_gpu_device_uuid` has another one.
"""

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from typing import Any

with redirect_stdout(io.StringIO()):
    # It prints where its library is not, besides raising: what we write is read by programs.
    import amdsmi  # no dependency of ours: most hosts are without it
from studio.v1.host_pb2 import Gpu, GpuFigures, GpuProcess

from studio_agent.gpu.frames import Refusal
from studio_agent.gpu.reader import Device, GpusUnreadableError
from studio_agent.gpu.reading import Condition, LinkCounters, Vendor, Xid

NOT_INITIALIZED, DRIVER_NOT_LOADED = 32, 34

# All bits set, in the widths that its numbers have.
NO_VALUE = {0xFFFF, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF}
# What HIP calls a GPU that has no number of its own: any other such GPU has the same name.
NOT_UNIQUE = {"", "N/A", "GPU-XX"}


def optional(function: str, *arguments: Any) -> Any:
    """What the binding's ``function`` returns, or None where there is no such value."""
    call = getattr(amdsmi, function, None)
    if call is None:
        return None
    try:
        return call(*arguments)
    except amdsmi.AmdSmiLibraryException as error:
        if error.get_error_code() in {NOT_INITIALIZED, DRIVER_NOT_LOADED}:
            raise
        return None


@contextmanager
def opened() -> Iterator["Amd"]:
    """The library from initialization to shutdown; raises GpusUnreadableError."""
    try:
        amdsmi.amdsmi_init()
    except amdsmi.AmdSmiLibraryException as error:
        # The library is there, and so its driver may come.
        reason = f"AMD SMI cannot be used: {' '.join(str(error).split())}"
        raise GpusUnreadableError(Refusal(reason, absent=True, final=False)) from error
    try:
        yield Amd()
    finally:
        optional("amdsmi_shut_down")


class Amd:
    """The library, initialized. One `Reader`."""

    vendor: Vendor = "amd"

    def __init__(self) -> None:
        handles = optional("amdsmi_get_processor_handles") or ()
        drivers = (optional("amdsmi_get_gpu_driver_info", handle) for handle in handles)
        version = next((_text(driver, "driver_version") for driver in drivers if driver), "")
        # With the driver's name: the bare number would be taken for an ancient one of NVIDIA's.
        self.driver_version = f"amdgpu {version}" if version else ""

    def devices(self) -> list[Device]:
        """GPUs that HIP can be told by UUID."""
        handles = optional("amdsmi_get_processor_handles") or ()
        found = [Device(handle, _facts(handle, index)) for index, handle in enumerate(handles)]
        return [device for device in found if device.facts.uuid not in NOT_UNIQUE]

    def watch_events(self, device: Device) -> None:
        """Nothing is reported."""

    def wait_for_events(self, seconds: float) -> list[Xid] | None:  # noqa: ARG002 - there is nothing to wait for
        """Nothing is reported."""
        return None

    def read_fast(self, device: Device) -> GpuFigures:
        """What moves by the second."""
        handle = device.handle
        busy_percent = _number(optional("amdsmi_get_gpu_activity", handle), "gfx_activity")
        return GpuFigures(
            memory_used_bytes=optional("amdsmi_get_gpu_memory_usage", handle, amdsmi.AmdSmiMemoryType.VRAM),
            utilization_share=None if busy_percent is None else busy_percent / 100,
            power_watts=_power_watts(handle),
            power_limit_watts=_power_limit_watts(handle),
            energy_millijoules=_energy_millijoules(handle),
            temperature_celsius=_temperature_celsius(handle),
            sm_clock_mhz=_clock_mhz(handle, amdsmi.AmdSmiClkType.GFX),
            memory_clock_mhz=_clock_mhz(handle, amdsmi.AmdSmiClkType.MEM),
        )

    def read_slow(self, device: Device) -> GpuFigures:
        """Processes, with the memory that they hold on the GPU, and ECC errors since the driver was loaded."""
        found = optional("amdsmi_get_gpu_process_list", device.handle) or ()
        return GpuFigures(
            processes=[
                GpuProcess(pid=each["pid"], memory_used_bytes=_number(each.get("memory_usage"), "vram_mem"))
                for each in found
            ],
            ecc_uncorrected=_number(optional("amdsmi_get_gpu_total_ecc_count", device.handle), "uncorrectable_count"),
        )

    def condition(self, device: Device) -> Condition:
        """Nothing speaks against a GPU that is listed."""
        return Condition(device.facts.uuid)

    def links(self, device: Device) -> LinkCounters:
        """Not read."""
        return LinkCounters(device.facts.uuid)


def _facts(handle: Any, index: int) -> Gpu:
    """Without a compute capability, which is a number of NVIDIA's."""
    return Gpu(
        uuid=_text(optional("amdsmi_get_gpu_enumeration_info", handle), "hip_uuid"),
        index=index,
        model=_text(optional("amdsmi_get_gpu_asic_info", handle), "market_name"),
        memory_bytes=optional("amdsmi_get_gpu_memory_total", handle, amdsmi.AmdSmiMemoryType.VRAM),
        pci_bus_id=optional("amdsmi_get_gpu_device_bdf", handle),
    )


def _power_watts(handle: Any) -> int | None:
    """MI300 and newer give the current power, others an average."""
    info = optional("amdsmi_get_power_info", handle)
    current = _number(info, "current_socket_power")
    return _number(info, "average_socket_power") if current is None else current


def _power_limit_watts(handle: Any) -> float | None:
    microwatts = _number(optional("amdsmi_get_power_cap_info", handle), "power_cap")
    return None if microwatts is None else microwatts / 1_000_000


def _energy_millijoules(handle: Any) -> int | None:
    """The counter's unit is told beside it, in microjoules."""
    info = optional("amdsmi_get_energy_count", handle)
    count = _number(info, "energy_accumulator")
    return None if count is None else round(count * info["counter_resolution"] / 1000)


def _temperature_celsius(handle: Any) -> int | None:
    """At the edge of the chip; data center GPUs measure the hottest spot only."""
    current = amdsmi.AmdSmiTemperatureMetric.CURRENT
    for sensor in (amdsmi.AmdSmiTemperatureType.EDGE, amdsmi.AmdSmiTemperatureType.HOTSPOT):
        celsius: int | None = optional("amdsmi_get_temp_metric", handle, sensor, current)
        if celsius is not None:
            return celsius
    return None


def _clock_mhz(handle: Any, clock: Any) -> int | None:
    return _number(optional("amdsmi_get_clock_info", handle, clock), "clk")


def _number(values: Mapping[str, Any] | None, key: str) -> int | None:
    value = values.get(key) if values else None
    return value if isinstance(value, int) and value not in NO_VALUE else None


def _text(values: Mapping[str, Any] | None, key: str) -> str:
    value = values.get(key) if values else None
    return value if isinstance(value, str) and value != "N/A" else ""
