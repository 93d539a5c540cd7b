"""NVML as the child reads it; the only importer of the binding.

Every value may be absent: an older driver lacks the function, a consumer card the sensor, a partitioned GPU the
counter. Whatever cannot be read stays unset. Only two errors are more than an absent value: a lost GPU (`GpuLostError`,
others go on) and a library that can no longer be used (the binding's own error, which ends the child).

Which call is made at which tick, and why, is in docs/nvml.md.
"""

import ctypes
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pynvml
from studio.v1.host_pb2 import Gpu, GpuFigures, GpuProcess

from studio_agent.gpu import host
from studio_agent.gpu.frames import Refusal
from studio_agent.gpu.reader import Device, GpuLostError, GpusUnreadableError
from studio_agent.gpu.reading import Condition, LinkCounters, Vendor, Xid

LOST = {pynvml.NVML_ERROR_GPU_IS_LOST, pynvml.NVML_ERROR_RESET_REQUIRED, pynvml.NVML_ERROR_GPU_NOT_FOUND}
UNUSABLE = {pynvml.NVML_ERROR_UNINITIALIZED, pynvml.NVML_ERROR_DRIVER_NOT_LOADED}

ALL_LINKS = 0xFFFFFFFF
FIELD_NVLINK_SENT_KIB, FIELD_NVLINK_RECEIVED_KIB = 138, 139
FIELD_PCIE_SENT_BYTES, FIELD_PCIE_RECEIVED_BYTES = 197, 198
FIELD_NVLINK_SENT_BYTES, FIELD_NVLINK_RECEIVED_BYTES = 202, 204
FIELD_RECOVERY_ACTION = 230

CLOCK_EVENT_REASONS = {
    0x1: "idle",
    0x2: "application_clocks",
    0x4: "software_power_cap",
    0x8: "hardware_slowdown",
    0x10: "sync_boost",
    0x20: "software_thermal_slowdown",
    0x40: "hardware_thermal_slowdown",
    0x80: "hardware_power_brake",
    0x100: "display_clocks",
}

# XIDs, double-bit ECC errors, "GPU unavailable" and "recovery action changed".
EVENTS_WANTED = 0x8 | 0x2 | 0x4000 | 0x8000
EVENT_XID = 0x8

# Members of the union that holds a field's value, by its type.
FIELD_VALUE_MEMBERS = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")


def optional(call: Callable[..., Any], *arguments: Any) -> Any:
    """What ``call`` returns, or None where there is no such value; raises GpuLostError."""
    try:
        return call(*arguments)
    except pynvml.NVMLError as error:
        if error.value in LOST:
            raise GpuLostError(str(error)) from error
        if error.value in UNUSABLE:
            raise
        return None


@contextmanager
def opened() -> Iterator["Nvml"]:
    """NVML from initialization to shutdown; raises GpusUnreadableError."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        missing = error.value == pynvml.NVML_ERROR_LIBRARY_NOT_FOUND
        absent = missing or error.value == pynvml.NVML_ERROR_DRIVER_NOT_LOADED
        raise GpusUnreadableError(Refusal(f"NVML cannot be used: {error}", absent=absent, final=missing)) from error
    try:
        yield Nvml()
    finally:
        optional(pynvml.nvmlShutdown)


class Nvml:
    """The library, initialized. One `Reader`."""

    vendor: Vendor = "nvidia"

    def __init__(self) -> None:
        self.driver_version: str = optional(pynvml.nvmlSystemGetDriverVersion) or ""
        self._events = optional(pynvml.nvmlEventSetCreate)
        self._uuid_of_handle: dict[int, str] = {}

    def devices(self) -> list[Device]:
        """What the driver lists now: GPUs, each followed by its MIG instances; without those that it cannot open."""
        found: list[Device] = []
        for index in range(optional(pynvml.nvmlDeviceGetCount) or 0):
            try:
                handle = optional(pynvml.nvmlDeviceGetHandleByIndex, index)
                if handle is not None:
                    found += _with_instances(handle, index)
            except GpuLostError:
                continue
        _name_nvlink_peers(found)
        return found

    def watch_events(self, device: Device) -> None:
        """Have the driver report this GPU's errors to `wait_for_events`, where it can."""
        if self._events is None:
            return
        supported = optional(pynvml.nvmlDeviceGetSupportedEventTypes, device.handle) or 0
        if wanted := supported & EVENTS_WANTED:
            optional(pynvml.nvmlDeviceRegisterEvents, device.handle, wanted, self._events)
            self._uuid_of_handle[_address(device.handle)] = device.facts.uuid

    def wait_for_events(self, seconds: float) -> list[Xid] | None:
        """Wait for a GPU's report: its XIDs (none when it was another event); None: time over, or nothing to wait for."""
        if not self._uuid_of_handle:
            return None
        try:
            data = pynvml.nvmlEventSetWait_v2(self._events, max(1, round(seconds * 1000)))
        except pynvml.NVMLError as error:
            if error.value in UNUSABLE:
                raise
            if error.value != pynvml.NVML_ERROR_TIMEOUT:
                # A set that fails at once would make the caller spin.
                time.sleep(seconds)
            return None
        uuid = self._uuid_of_handle.get(_address(data.device))
        if uuid is None or data.eventType != EVENT_XID:
            return []
        return [Xid(uuid, int(data.eventData), time.time())]

    def read_fast(self, device: Device) -> GpuFigures:
        """What moves by the second; raises GpuLostError."""
        handle = device.handle
        used, reserved = _memory_in_use(device)
        if device.facts.parent_uuid:
            # NVML gives everything else for the whole GPU only.
            return GpuFigures(memory_used_bytes=used, memory_reserved_bytes=reserved)
        rates = optional(pynvml.nvmlDeviceGetUtilizationRates, handle)
        return GpuFigures(
            memory_used_bytes=used,
            memory_reserved_bytes=reserved,
            utilization_share=rates.gpu / 100 if rates and _known(rates.gpu) is not None else None,
            power_watts=_thousandth(optional(pynvml.nvmlDeviceGetPowerUsage, handle)),
            power_limit_watts=_thousandth(optional(pynvml.nvmlDeviceGetEnforcedPowerLimit, handle)),
            energy_millijoules=_known(optional(pynvml.nvmlDeviceGetTotalEnergyConsumption, handle)),
            temperature_celsius=_temperature(handle),
            sm_clock_mhz=_known(optional(pynvml.nvmlDeviceGetClockInfo, handle, pynvml.NVML_CLOCK_SM)),
            memory_clock_mhz=_known(optional(pynvml.nvmlDeviceGetClockInfo, handle, pynvml.NVML_CLOCK_MEM)),
            clock_event_reasons=_clock_event_reasons(handle),
        )

    def read_slow(self, device: Device) -> GpuFigures:
        """What moves rarely or costs much: ECC, remapped rows, processes (pid and memory); raises GpuLostError."""
        handle = device.handle
        found = optional(pynvml.nvmlDeviceGetComputeRunningProcesses_v3, handle) or ()
        processes = [GpuProcess(pid=each.pid, memory_used_bytes=each.usedGpuMemory) for each in found]
        if device.facts.parent_uuid:
            return GpuFigures(processes=processes)
        uncorrected, since_load = pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, pynvml.NVML_VOLATILE_ECC
        rows = optional(pynvml.nvmlDeviceGetRemappedRows, handle)
        return GpuFigures(
            processes=processes,
            ecc_uncorrected=_known(optional(pynvml.nvmlDeviceGetTotalEccErrors, handle, uncorrected, since_load)),
            remapped_rows=rows[0] + rows[1] if rows else None,
        )

    def condition(self, device: Device) -> Condition:
        """Evidence about the health of a GPU; raises GpuLostError."""
        rows = optional(pynvml.nvmlDeviceGetRemappedRows, device.handle)
        return Condition(
            uuid=device.facts.uuid,
            recovery_action=_fields(device.handle, [FIELD_RECOVERY_ACTION])[0],
            remap_pending=bool(rows[2]) if rows else None,
            remap_failed=bool(rows[3]) if rows else None,
            partitioned=device.partitioned,
        )

    def links(self, device: Device) -> LinkCounters:
        """Counters of PCIe and NVLink by field values, which do not block as the throughput calls do; raises GpuLostError."""
        handle = device.handle
        pcie = _fields(handle, [FIELD_PCIE_SENT_BYTES, FIELD_PCIE_RECEIVED_BYTES])
        kib = _fields(handle, [(FIELD_NVLINK_SENT_KIB, ALL_LINKS), (FIELD_NVLINK_RECEIVED_KIB, ALL_LINKS)])
        nvlink = [None if value is None else value * 1024 for value in kib]
        if nvlink == [None, None]:  # NVLink 5 counts bytes
            nvlink = _fields(handle, [(FIELD_NVLINK_SENT_BYTES, ALL_LINKS), (FIELD_NVLINK_RECEIVED_BYTES, ALL_LINKS)])
        return LinkCounters(device.facts.uuid, *pcie, *nvlink)


def _with_instances(handle: Any, index: int) -> Iterator[Device]:
    modes = optional(pynvml.nvmlDeviceGetMigMode, handle)
    partitioned = bool(modes) and modes[0] == pynvml.NVML_DEVICE_MIG_ENABLE
    unified = _shares_host_memory(handle)
    whole = Device(handle, _facts(handle, index), partitioned, unified)
    if unified:
        whole.facts.memory_bytes, _ = host.memory_bytes()
    if not whole.facts.uuid:
        return  # without an identity it cannot be used
    yield whole
    if not partitioned:
        return
    for position in range(optional(pynvml.nvmlDeviceGetMaxMigDeviceCount, handle) or 0):
        instance = optional(pynvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, position)
        if instance is not None and (facts := _facts(instance, index)).uuid:
            facts.parent_uuid = whole.facts.uuid
            facts.pci_bus_id = whole.facts.pci_bus_id
            facts.compute_capability = whole.facts.compute_capability
            yield Device(instance, facts)


def _facts(handle: Any, index: int) -> Gpu:
    memory = _memory(handle)
    capability = optional(pynvml.nvmlDeviceGetCudaComputeCapability, handle)
    pci = optional(pynvml.nvmlDeviceGetPciInfo_v3, handle)
    return Gpu(
        uuid=optional(pynvml.nvmlDeviceGetUUID, handle),
        index=index,
        model=optional(pynvml.nvmlDeviceGetName, handle) or "",
        memory_bytes=memory.total if memory else 0,
        compute_capability="{}.{}".format(*capability) if capability else "",
        pci_bus_id=pci.busId if pci else "",
    )


def _name_nvlink_peers(devices: list[Device]) -> None:
    """Write into each GPU's facts which others it reaches over NVLink, directly or through a switch."""
    whole = [device for device in devices if not device.facts.parent_uuid]
    for device in whole:
        for other in whole:
            if other is device:
                continue
            try:
                status = optional(
                    pynvml.nvmlDeviceGetP2PStatus, device.handle, other.handle, pynvml.NVML_P2P_CAPS_INDEX_NVLINK
                )
            except GpuLostError:
                continue
            if status == pynvml.NVML_P2P_STATUS_OK:
                device.facts.nvlink_peers.append(other.facts.uuid)


def _memory(handle: Any) -> Any:
    """The second version tells reserved memory apart; older drivers have only the first."""
    memory = optional(pynvml.nvmlDeviceGetMemoryInfo, handle, pynvml.nvmlMemory_v2)
    if memory is None:
        memory = optional(pynvml.nvmlDeviceGetMemoryInfo, handle)
    return None if memory is None or _known(memory.total) is None else memory


def _memory_in_use(device: Device) -> tuple[int | None, int | None]:
    """Bytes used and bytes reserved by the driver."""
    if device.unified:
        total, available = host.memory_bytes()
        return total - available, None
    memory = _memory(device.handle)
    return (memory.used, getattr(memory, "reserved", None)) if memory else (None, None)


def _shares_host_memory(handle: Any) -> bool:
    """GPUs without memory of their own (GB10 and the like) answer "not supported", and nothing else, when asked for it."""
    try:
        pynvml.nvmlDeviceGetMemoryInfo(handle)
    except pynvml.NVMLError as error:
        return bool(error.value == pynvml.NVML_ERROR_NOT_SUPPORTED)
    return False


def _temperature(handle: Any) -> int | None:
    value = optional(pynvml.nvmlDeviceGetTemperatureV, handle, pynvml.NVML_TEMPERATURE_GPU)
    if value is None:
        value = optional(pynvml.nvmlDeviceGetTemperature, handle, pynvml.NVML_TEMPERATURE_GPU)
    return _known(value)


def _clock_event_reasons(handle: Any) -> list[str]:
    bits = optional(pynvml.nvmlDeviceGetCurrentClocksEventReasons, handle)
    if bits is None:  # the name before driver 535
        bits = optional(pynvml.nvmlDeviceGetCurrentClocksThrottleReasons, handle)
    return [name for bit, name in CLOCK_EVENT_REASONS.items() if bit and bits & bit]


def _fields(handle: Any, wanted: Iterable[int | tuple[int, int]]) -> list[int | None]:
    """Field values in one call, in the order of ``wanted`` (field, or field and scope)."""
    wanted = list(wanted)
    values = optional(pynvml.nvmlDeviceGetFieldValues, handle, wanted)
    if values is None:
        return [None] * len(wanted)
    return [
        int(getattr(value.value, FIELD_VALUE_MEMBERS[value.valueType]))
        if value.nvmlReturn == pynvml.NVML_SUCCESS and value.valueType < len(FIELD_VALUE_MEMBERS)
        else None
        for value in values
    ]


def _known(value: int | None) -> int | None:
    """None for what NVML writes where it has no value: -1, in whatever width and sign the field has."""
    return None if value in {-1, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF} else value


def _thousandth(value: int | None) -> float | None:
    known = _known(value)
    return None if known is None else known / 1000


def _address(handle: Any) -> int:
    """The pointer behind a handle: the only thing that an event and a device have in common."""
    return ctypes.cast(handle, ctypes.c_void_p).value or 0
