"""One tick of the child: read every GPU once, and remember what the slow tick found until the next one."""

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from google.protobuf.timestamp_pb2 import Timestamp
from studio.v1.host_pb2 import Gpu, GpuFigures, GpuProcess, Host, HostFacts

from studio_agent.gpu.frames import Frame
from studio_agent.gpu.host import program_of
from studio_agent.gpu.reader import Device, GpuLostError, Reader
from studio_agent.gpu.reading import Condition, LinkCounters, Xid

PCI_DEVICES = Path("/sys/bus/pci/devices")
# Every how many ticks the slow values are read.
SLOW_EVERY = 10


@dataclass
class Sampled:
    """What is known of one device."""

    device: Device
    # The slow values of the last slow tick.
    slow: GpuFigures = field(default_factory=GpuFigures)
    condition: Condition | None = None
    links: LinkCounters | None = None


class Sampling:
    """Reads all devices into frames. A device that the driver stops listing stays, as a lost one."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._sampled: dict[str, Sampled] = {}

    def tick(self, now: float, xids: Iterable[Xid], *, slow: bool) -> Frame:
        """Read every device; ``now`` in seconds since the epoch."""
        if slow:
            self._list_devices()
        at = Timestamp()
        at.FromNanoseconds(int(now * 1e9))
        host = Host(facts=HostFacts(gpu_driver=self._reader.driver_version))
        for sampled in self._sampled.values():
            gpu = host.gpus.add()
            gpu.CopyFrom(sampled.device.facts)
            figures = self._figures(sampled, slow=slow)
            if figures is not None:
                figures.at.CopyFrom(at)
                gpu.figures.CopyFrom(figures)
        known = self._sampled.values()
        return Frame(
            host=host,
            vendor=self._reader.vendor,
            conditions=tuple(each.condition for each in known if each.condition is not None),
            links=tuple(each.links for each in known if each.links is not None),
            xids=tuple(xids),
        )

    def _list_devices(self) -> None:
        """Take in new devices and drop MIG instances that were removed; a whole GPU that is gone is lost, with its own."""
        listed = {device.facts.uuid: device for device in self._reader.devices()}
        for uuid, device in listed.items():
            known = self._sampled.get(uuid)
            if known is None:
                _name_numa_node(device.facts)
                self._sampled[uuid] = Sampled(device)
                if not device.facts.parent_uuid:
                    self._reader.watch_events(device)
            elif known.device.partitioned != device.partitioned or (known.condition and known.condition.lost):
                known.device, known.condition = device, None
        for uuid, known in list(self._sampled.items()):
            parent = known.device.facts.parent_uuid
            if uuid in listed or (parent and parent not in listed):
                continue
            if parent:
                del self._sampled[uuid]
            else:
                known.condition = _lost(known, "it is no longer listed")

    def _figures(self, sampled: Sampled, *, slow: bool) -> GpuFigures | None:
        """New figures; None when the GPU is lost. Also renews the condition and the links of a whole GPU."""
        device = sampled.device
        if sampled.condition is not None and sampled.condition.lost:
            return None
        try:
            if slow:
                sampled.slow = self._reader.read_slow(device)
                for process in sampled.slow.processes:
                    _name_process(process)
                if not device.facts.parent_uuid:
                    sampled.condition = self._reader.condition(device)
                    sampled.links = self._reader.links(device)
            figures = self._reader.read_fast(device)
            figures.MergeFrom(sampled.slow)
        except GpuLostError as error:
            if not device.facts.parent_uuid:
                sampled.condition = _lost(sampled, str(error))
            return None
        return figures


def _lost(sampled: Sampled, reason: str) -> Condition:
    return replace(sampled.condition or Condition(sampled.device.facts.uuid), lost=reason)


def _name_numa_node(facts: Gpu) -> None:
    """The node of the GPU's slot; -1 where there is none. (NVML's own call is about GPUs whose *memory* is a node.)"""
    domain, _, rest = facts.pci_bus_id.lower().partition(":")
    try:
        facts.numa_node = int((PCI_DEVICES / f"{domain[-4:]}:{rest}" / "numa_node").read_text(encoding="ascii"))
    except (OSError, ValueError):
        facts.numa_node = -1


def _name_process(process: GpuProcess) -> None:
    """Add the program's name and its user. Arguments are left out: they may hold secrets."""
    with contextlib.suppress(OSError, ValueError):
        name, user = program_of(process.pid)
        process.command, process.user = name, user
