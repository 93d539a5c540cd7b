"""What the agent knows about its GPUs: frames folded into facts, figures, health and events. Clocks are arguments."""

from collections import deque
from collections.abc import Mapping
from dataclasses import asdict

from google.protobuf.timestamp_pb2 import Timestamp
from studio.v1.event_pb2 import Event
from studio.v1.host_pb2 import Gpu, GpuFigures

from studio_agent.gpu.frames import Frame
from studio_agent.gpu.health import DEGRADED, HEALTHY, QUARANTINED, GpuHealth, health, meaning_of, recheck
from studio_agent.gpu.reading import Condition, LinkCounters, Vendor, Xid
from studio_agent.gpu.xids import XID_TABLE_VERSION, Fault

# Events that wait to be taken; older ones are dropped.
MOST_EVENTS = 256


class GpuPicture:
    """The latest of everything, by UUID. ``known_health`` is what the agent kept from its last run."""

    def __init__(self, known_health: Mapping[str, GpuHealth]) -> None:
        self.driver_version = ""
        # NVIDIA until a frame says otherwise; HIP reads CUDA_VISIBLE_DEVICES, too.
        self.vendor: Vendor = "nvidia"
        # As of the last slow tick.
        self._links: dict[str, LinkCounters] = {}
        # Verdicts on whole GPUs; a MIG instance has that of the GPU it is part of.
        self.health: dict[str, GpuHealth] = dict(known_health)
        self._gpus: dict[str, Gpu] = {}
        self._figures: dict[str, GpuFigures] = {}
        # UUIDs whose last read failed.
        self._unread: set[str] = set()
        self._conditions: dict[str, Condition] = {}
        self._events: deque[Event] = deque(maxlen=MOST_EVENTS)

    def take(self, frame: Frame, now: float) -> bool:
        """Fold a frame in; ``now`` in seconds since the epoch. Whether facts or health changed."""
        before = self.gpus()
        self.driver_version = frame.host.facts.gpu_driver
        self.vendor = frame.vendor
        conditions = {each.uuid: each for each in frame.conditions}
        # A whole GPU that an earlier child knew and this one does not is gone, not forgotten.
        for uuid in self._conditions.keys() - conditions.keys():
            conditions[uuid] = Condition(uuid, lost="it is no longer listed")
        self._conditions = conditions
        listed = {gpu.uuid: gpu for gpu in frame.host.gpus}
        kept = {uuid: gpu for uuid, gpu in self._gpus.items() if uuid in conditions}
        self._gpus = kept | {uuid: _without_figures(gpu) for uuid, gpu in listed.items()}
        read = {uuid: gpu.figures for uuid, gpu in listed.items() if gpu.HasField("figures")}
        self._figures = {uuid: figures for uuid, figures in (self._figures | read).items() if uuid in self._gpus}
        self._unread = self._figures.keys() - read.keys()
        self._links = {each.uuid: each for each in frame.links}
        for xid in frame.xids:
            self._report_xid(xid)
        for uuid, condition in conditions.items():
            previous = self.health.get(uuid, GpuHealth())
            verdict = health(previous, condition, [xid for xid in frame.xids if xid.uuid == uuid])
            self._set_health(uuid, verdict, now)
        return self.gpus() != before

    def gpus(self) -> list[Gpu]:
        """What work can be placed on, without figures: whole GPUs, and in place of a partitioned one its instances."""
        assignable = []
        for uuid, gpu in self._gpus.items():
            condition = self._conditions.get(uuid)
            if condition is not None and condition.partitioned:
                continue
            verdict = self.health.get(gpu.parent_uuid or uuid, GpuHealth())
            shown = Gpu(health=verdict.health, health_reason=verdict.reason)
            shown.MergeFrom(gpu)
            assignable.append(shown)
        return sorted(assignable, key=lambda gpu: (gpu.index, gpu.uuid))

    def figures(self, *, stale: bool) -> dict[str, GpuFigures]:
        """The latest figures, of partitioned GPUs as well; ``stale``: all of them are too old."""
        shown = {}
        for uuid, figures in self._figures.items():
            shown[uuid] = GpuFigures()
            shown[uuid].CopyFrom(figures)
            shown[uuid].stale = stale or uuid in self._unread
            if (links := self._links.get(uuid)) is not None:
                for name, count in asdict(links).items():
                    if name != "uuid" and count is not None:
                        setattr(shown[uuid], name, count)
        return shown

    def recheck(self, uuid: str, now: float) -> GpuHealth:
        """Judge the GPU anew, or the one that a MIG instance is part of, by what can be read now.

        A verdict on a GPU that this host no longer has is dropped. Raises KeyError when no such GPU is known.
        """
        gpu = self._gpus.get(uuid)
        uuid = gpu.parent_uuid or uuid if gpu else uuid
        if uuid not in self._conditions:
            del self.health[uuid]
            return GpuHealth()
        verdict = recheck(self._conditions[uuid])
        self._set_health(uuid, verdict, now)
        return verdict

    def quarantined(self) -> dict[str, str]:
        """What no work may be placed on, with the reason, by UUID: GPUs, also before they are seen, and their MIG instances."""
        whole = {uuid: verdict.reason for uuid, verdict in self.health.items() if verdict.health == QUARANTINED}
        parts = {gpu.uuid: whole[gpu.parent_uuid] for gpu in self._gpus.values() if gpu.parent_uuid in whole}
        return whole | parts

    def quarantine(self, uuid: str, reason: str, now: float) -> None:
        """Give the GPU, or the one that a MIG instance is part of, no more work until it is checked."""
        gpu = self._gpus.get(uuid)
        self._set_health(gpu.parent_uuid or uuid if gpu else uuid, GpuHealth(QUARANTINED, reason, kept=True), now)

    def take_events(self) -> list[Event]:
        """Events since the last call."""
        taken = list(self._events)
        self._events.clear()
        return taken

    def report(self, event: Event, now: float) -> None:
        """Add an event; ``now`` in seconds since the epoch."""
        at = Timestamp()
        at.FromNanoseconds(int(now * 1e9))
        event.at.CopyFrom(at)
        self._events.append(event)

    def _report_xid(self, xid: Xid) -> None:
        condition = self._conditions.get(xid.uuid)
        meaning = meaning_of(xid.number, condition.recovery_action if condition else None)
        blame = {Fault.TENANT: " The program that ran on it is the cause."}.get(meaning.fault, "")
        event = Event(
            severity=Event.SEVERITY_ERROR if meaning.fault is Fault.DEVICE else Event.SEVERITY_WARNING,
            kind="gpu.xid",
            reason=meaning.fault.value,
            message=f"The driver reported XID {xid.number} on {xid.uuid}: {meaning.name}.{blame} {meaning.advice}",
            attributes={"gpu": xid.uuid, "xid": str(xid.number), "xid_table": XID_TABLE_VERSION},
        )
        self.report(event, xid.at)

    def _set_health(self, uuid: str, verdict: GpuHealth, now: float) -> None:
        previous = self.health.get(uuid)
        self.health[uuid] = verdict
        if verdict.health == (previous or GpuHealth()).health:
            return
        word = Gpu.Health.Name(verdict.health).removeprefix("HEALTH_").lower()
        severity = {HEALTHY: Event.SEVERITY_INFO, DEGRADED: Event.SEVERITY_WARNING}.get(
            verdict.health, Event.SEVERITY_ERROR
        )
        message = f"GPU {uuid} is {word}. {verdict.reason}".rstrip()
        event = Event(severity=severity, kind=f"gpu.{word}", reason=word, message=message, attributes={"gpu": uuid})
        self.report(event, now)


def _without_figures(gpu: Gpu) -> Gpu:
    facts = Gpu()
    facts.CopyFrom(gpu)
    facts.ClearField("figures")
    return facts
