"""What the child asks of a vendor's library, whichever it is; `nvml` and `amd` answer.

A value that a library does not give stays unset. Only two things are more than an absent value: a lost GPU
(`GpuLostError`, others go on) and a library that can no longer be used (the binding's own error, which ends the child).
"""

from dataclasses import dataclass
from typing import Any, Protocol

from studio.v1.host_pb2 import Gpu, GpuFigures

from studio_agent.gpu.frames import Refusal
from studio_agent.gpu.reading import Condition, LinkCounters, Vendor, Xid


class GpusUnreadableError(Exception):
    """A vendor's library cannot be used on this host now."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.reason)
        self.refusal = refusal


class GpuLostError(Exception):
    """The driver has given up this GPU; the message is the driver's."""


@dataclass(frozen=True)
class Device:
    """A GPU or a MIG instance, with what does not change while its driver is loaded."""

    # The library's own, and nobody else's to use.
    handle: Any
    facts: Gpu
    # In MIG mode.
    partitioned: bool = False
    # Its memory is the host's.
    unified: bool = False


class Reader(Protocol):
    """A vendor's library, initialized. Calls take microseconds or for ever: they are made in the child alone."""

    @property
    def vendor(self) -> Vendor:
        """Whose GPUs it reads."""

    @property
    def driver_version(self) -> str:
        """Of the kernel's driver; empty where it is not told."""

    def devices(self) -> list[Device]:
        """What the driver lists now: GPUs, each followed by its MIG instances; without those that it cannot open."""

    def watch_events(self, device: Device) -> None:
        """Have the driver report this GPU's errors to `wait_for_events`, where it can."""

    def wait_for_events(self, seconds: float) -> list[Xid] | None:
        """Wait for a GPU's report: its XIDs (none when it was another event); None: time over, or nothing to wait for."""

    def read_fast(self, device: Device) -> GpuFigures:
        """What moves by the second; raises GpuLostError."""

    def read_slow(self, device: Device) -> GpuFigures:
        """What moves rarely or costs much: ECC, remapped rows, processes (pid and memory); raises GpuLostError."""

    def condition(self, device: Device) -> Condition:
        """Evidence about the health of a GPU; raises GpuLostError."""

    def links(self, device: Device) -> LinkCounters:
        """Counters of the GPU's links; raises GpuLostError."""
