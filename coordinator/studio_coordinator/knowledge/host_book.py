"""The hosts as a pass looks at them: what is stored, with the newest figures in whole steps.

A host of which nothing moved by a step is the same object pass after pass, and what was worked out of it holds.
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from google.protobuf.timestamp_pb2 import Timestamp
from studio.v1.agent_service_pb2 import ObservationReport, ReportTelemetryRequest
from studio.v1.host_pb2 import GpuFigures, Host

from studio_coordinator.knowledge.figures import STEP_BYTES, add_what_counts, weights_on
from studio_coordinator.knowledge.stored import StoredHost
from studio_coordinator.plan.gpus import STEP_BYTES as GPU_STEP_BYTES
from studio_coordinator.plan.gpus import Device
from studio_coordinator.plan.shape import Shape
from studio_coordinator.sessions import SessionRegistry

# Looking at a host's figures takes three microseconds or so, making it anew as long as so many looks.
MAKING = 25
# Looks between which the others have no turn.
AT_ONCE = 2500


@dataclass
class _Entry:
    """One host, and what it was made of."""

    stored: StoredHost
    observed: ObservationReport | None
    # Of the newest figures that were looked at: as long as there are no others, nothing of them is compared.
    stamp: int
    figures: tuple[object, ...]
    last_seen: Timestamp | None
    host: Host
    shape: Shape
    weights: frozenset[str]


class HostBook:
    """Remembers each host as it was last shown."""

    def __init__(self, sessions: SessionRegistry) -> None:
        self._sessions = sessions
        self._entries: dict[str, _Entry] = {}
        # Alike hosts share one tuple, which is then recognised without comparing.
        self._devices: dict[tuple[Device, ...], tuple[Device, ...]] = {}

    async def update(self, stored: Iterable[StoredHost], seen: Mapping[str, Timestamp]) -> list[Host]:
        """The hosts, in the order given. ``seen``: when those were last heard of whom the store knows better than their row."""
        entries: dict[str, _Entry] = {}
        work = 0
        for row in stored:
            observed, stamp = self._sessions.last_words(row.id)
            last_seen = seen.get(row.id)
            known = self._entries.get(row.id)
            stays = known is not None and known.stored is row and known.observed is observed
            if known is None or not stays or known.last_seen != last_seen or known.stamp != stamp:
                figures = _what_counts(self._sessions.telemetry(row.id))
                work += 1
                if known is None or not stays or known.last_seen != last_seen or known.figures != figures:
                    known = self._make(row, observed, stamp, figures, last_seen)
                    work += MAKING
                known.stamp = stamp
                if work >= AT_ONCE:
                    # A new leader makes all of them.
                    work = 0
                    await asyncio.sleep(0)
            entries[row.id] = known
        if len(entries) < len(self._entries) or len(self._devices) > 2 * len(entries) + 1:
            self._devices = {entry.shape.devices: entry.shape.devices for entry in entries.values()}
        self._entries = entries
        return [entry.host for entry in entries.values()]

    @property
    def shapes(self) -> dict[str, Shape]:
        """Of every host, by id."""
        return {host_id: entry.shape for host_id, entry in self._entries.items()}

    @property
    def weights(self) -> dict[str, frozenset[str]]:
        """Names of the models whose files are whole on each host, by host id."""
        return {host_id: entry.weights for host_id, entry in self._entries.items()}

    def _make(
        self,
        row: StoredHost,
        observed: ObservationReport | None,
        stamp: int,
        figures: tuple[object, ...],
        last_seen: Timestamp | None,
    ) -> _Entry:
        host = Host.FromString(row.message)
        add_what_counts(host, self._sessions)
        if last_seen is not None:
            host.last_seen.CopyFrom(last_seen)
        shape = Shape.of(host)
        shape = replace(shape, devices=self._devices.setdefault(shape.devices, shape.devices))
        return _Entry(row, observed, stamp, figures, last_seen, host, shape, frozenset(weights_on(host)))


def _what_counts(said: ReportTelemetryRequest) -> tuple[object, ...]:
    """What a plan can see of a host's figures, in the steps in which it counts them."""
    host = said.host
    return (
        -(-host.memory_used_bytes // STEP_BYTES) if host.HasField("memory_used_bytes") else None,
        host.disk_free_bytes // STEP_BYTES if host.HasField("disk_free_bytes") else None,
        *_all_held(said.gpus),
    )


def _all_held(gpus: Mapping[str, GpuFigures]) -> list[tuple[str, object]]:
    """Who holds how much of each GPU that anybody holds."""
    held = []
    # Not by its items, which are made in Python: most GPUs of most hosts are looked at for nothing.
    for uuid in gpus:
        figures = gpus[uuid]
        if figures.processes:
            held.append((uuid, _held(figures)))
    # A map has no order of its own.
    return sorted(held)


def _held(figures: GpuFigures) -> tuple[object, ...]:
    """Who holds how much of a GPU."""
    return (
        figures.memory_used_bytes // GPU_STEP_BYTES,
        *((one.pid, one.memory_used_bytes // GPU_STEP_BYTES, one.replica_id) for one in figures.processes),
    )
