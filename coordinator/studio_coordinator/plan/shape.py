"""What placement sees of a host before anybody is on it: worked out once for as long as the host stays the same."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from studio.v1.host_pb2 import Gpu, Host

from studio_coordinator.plan.engine_minimums import numbers
from studio_coordinator.plan.gpus import Device, devices_of, measured_shares


@dataclass(frozen=True, eq=False)
class Shape:
    """A host's devices and what else does not depend on who is placed there. Never changed."""

    # The very message that it was made of.
    host: Host
    devices: tuple[Device, ...]
    gpus: tuple[Gpu, ...]
    # Major version; 0 where unknown.
    driver: int
    labels: Mapping[str, str]
    # GPU UUID to its place in ``devices``.
    positions: Mapping[str, int]
    # By place: what each replica of ours was measured to hold.
    measured: tuple[Mapping[str, float], ...]
    # Replicas of ours that were measured here: one that sleeps changes the devices.
    present: frozenset[str]

    @classmethod
    def of(cls, host: Host, asleep: Collection[str] = frozenset()) -> "Shape":
        """The shape of ``host`` while the replicas ``asleep`` sleep."""
        devices, gpus = devices_of(host, asleep)
        measured = tuple(measured_shares(gpu) if gpu.figures.processes else {} for gpu in gpus)
        return cls(
            host=host,
            devices=devices,
            gpus=gpus,
            driver=(numbers(host.facts.gpu_driver) or (0,))[0],
            labels=dict(host.labels),
            positions={gpu.uuid: position for position, gpu in enumerate(gpus)},
            measured=measured,
            present=frozenset(replica_id for shares in measured for replica_id in shares),
        )

    def serves_for(self, host: Host, asleep: Collection[str]) -> bool:
        """Whether it is the shape of this message while those replicas sleep."""
        return self.host is host and self.present.isdisjoint(asleep)
