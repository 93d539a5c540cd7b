"""One host as placement sees it: its GPUs and who holds what of them."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from studio.v1.host_pb2 import Gpu, Host
from studio.v1.replica_pb2 import Replica

from studio_coordinator.plan.gpus import Device
from studio_coordinator.plan.shape import Shape
from studio_coordinator.plan.wish import GpuNeed, Wish


@dataclass(frozen=True)
class Held:
    """A replica of ours on a host, with what it keeps from others there; one over several hosts is held on each of them."""

    id: str
    deployment: str
    priority: int
    # None: its recipe is unknown, so its GPUs count as taken whole.
    need: GpuNeed | None
    gpu_uuids: Sequence[str]
    host_memory_bytes: int = 0
    serving: bool = False
    # Seconds that it has served; 0 while it does not.
    served_seconds: float = 0.0
    # Hosts that it spans: who sends it away here sends it away everywhere.
    span: int = 1

    @property
    def demand(self) -> float:
        """GPUs that it takes on all of its hosts, as a number."""
        return self.span * len(self.gpu_uuids) * (1.0 if self.need is None else self.need.share or 1.0)

    @classmethod
    def at(cls, replica_id: str, wish: Wish, gpu_uuids: Sequence[str]) -> "Held":
        """What a replica that does not run yet keeps from others."""
        span = max(1, wish.span)
        return cls(replica_id, wish.deployment, wish.priority, wish.gpus, gpu_uuids, wish.host_memory_bytes, span=span)

    @classmethod
    def of(cls, replica: Replica, need: GpuNeed | None, priority: int, now_seconds: float, host_memory: int) -> "Held":
        """What ``replica`` holds on its host."""
        serving = replica.state == Replica.STATE_READY
        # Who sleeps holds no GPU: what it keeps of one is measured (`devices_of`). Who is told to wake holds them already.
        asleep = replica.state == Replica.STATE_SLEEPING and replica.sleep_level > 0
        since = replica.state_since
        return cls(
            id=replica.id,
            deployment=replica.deployment,
            priority=priority,
            need=need,
            gpu_uuids=() if asleep else tuple(replica.gpu_uuids),
            host_memory_bytes=host_memory,
            serving=serving,
            served_seconds=now_seconds - since.seconds - since.nanos / 1e9 if serving else 0.0,
            span=1 + len(replica.members),
        )


class HostView:
    """A host and who is on it; changes as replicas are placed."""

    def __init__(self, ordinal: int, host: Host, shape: Shape) -> None:
        # Place in the order of names.
        self.ordinal = ordinal
        self.host = host
        self.closed = why_closed(host)
        self.devices: tuple[Device, ...] = shape.devices
        self.gpus: tuple[Gpu, ...] = shape.gpus
        self.driver = shape.driver
        self.labels = shape.labels
        # Names of the models whose files are here.
        self.weights: frozenset[str] = frozenset()
        self.replicas: dict[str, Held] = {}
        # Ids of replicas that retire: they hold their GPUs until they are gone.
        self.leaving: set[str] = set()
        self.deployments: Counter[str] = Counter()
        self.host_memory_reserved = 0
        # By position of the GPU.
        self.taken = (0.0,) * len(self.devices)
        self._positions = shape.positions
        self._measured = shape.measured
        # By position, of GPUs that were ever taken: most hosts of a pass are never touched.
        self._shares: dict[int, dict[str, float]] = {}

    def add(self, held: Held) -> None:
        """Count a replica in."""
        self.replicas[held.id] = held
        self.deployments[held.deployment] += 1
        self.host_memory_reserved += held.host_memory_bytes
        for position in self._positions_of(held):
            device = self.devices[position]
            reserved = 1.0 if held.need is None else held.need.share_of(device.memory_bytes)
            self._shares.setdefault(position, {})[held.id] = max(reserved, self._measured[position].get(held.id, 0.0))
        self._sum_up(held)

    def remove(self, replica_id: str) -> None:
        """Count a replica out."""
        held = self.replicas.pop(replica_id)
        self.deployments[held.deployment] -= 1
        if not self.deployments[held.deployment]:
            del self.deployments[held.deployment]
        self.host_memory_reserved -= held.host_memory_bytes
        for position in self._positions_of(held):
            del self._shares[position][held.id]
        self._sum_up(held)
        self.leaving.discard(replica_id)

    def positions(self, gpu_uuids: Iterable[str]) -> list[int]:
        """Places of those GPUs that the host still has, in the order of ``devices``."""
        return [self._positions[uuid] for uuid in gpu_uuids if uuid in self._positions]

    def _positions_of(self, held: Held) -> list[int]:
        return self.positions(held.gpu_uuids)

    def _sum_up(self, held: Held) -> None:
        taken = list(self.taken)
        for position in self._positions_of(held):
            # Sorted and rounded, so that the order in which replicas came does not show.
            taken[position] = round(sum(sorted(self._shares[position].values())), 9)
        self.taken = tuple(taken)

    def without(self, replica_ids: Collection[str]) -> "HostView":
        """The host as it would be once these replicas are gone."""
        copy = HostView.__new__(HostView)
        copy.__dict__.update(self.__dict__)
        copy.replicas, copy.leaving = dict(self.replicas), set(self.leaving)
        copy.deployments = Counter(self.deployments)
        copy._shares = {position: dict(shares) for position, shares in self._shares.items()}  # noqa: SLF001 - a copy of itself
        for replica_id in replica_ids:
            copy.remove(replica_id)
        return copy

    def holders(self, positions: Collection[int]) -> list[Held]:
        """Who is on these GPUs."""
        ids = {replica_id for position in positions for replica_id in self._shares.get(position, ())}
        return [self.replicas[replica_id] for replica_id in sorted(ids)]

    def allowed(self, need: GpuNeed) -> Sequence[int] | None:
        """Positions that the need's pins leave; None for all."""
        if need.pinned is None:
            return None
        return [position for position, gpu in enumerate(self.gpus) if gpu.uuid in need.pinned]


def why_closed(host: Host) -> str:
    """Why nothing at all is placed on the host; empty when it is open."""
    if host.state != Host.STATE_CONNECTED:
        name = Host.State.Name(host.state).removeprefix("STATE_").lower()
        return f"{name}: {host.state_reason}" if host.state_reason else name
    if host.draining:
        return "draining"
    return "cordoned" if host.cordoned else ""
