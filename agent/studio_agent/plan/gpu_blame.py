"""When a replica's failure is the GPU's doing, and when a GPU is to be trusted no more.

- An XID that the driver blames on the device, seen on one of the replica's GPUs shortly before or after it failed, is the cause:
  the failure becomes a ``gpu_fault``. An XID that is the program's own doing leaves the failure as it is.
- Three different replicas that failed for GPU causes on one GPU within a day speak against the GPU, not against them.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from studio.v1.replica_pb2 import Failure

GPU_FAULT = "gpu_fault"
REPLICAS_TO_QUARANTINE = 3
WINDOW_SECONDS = 86_400.0
# From an XID to the failure that it explains, either way: the driver's news come by the second.
XID_NEAR_SECONDS = 30.0


@dataclass(frozen=True)
class SeenXid:
    """An error that the driver reported for a GPU and blames on the device. ``at``: seconds since the epoch."""

    uuid: str
    number: int
    message: str
    at: float


@dataclass(frozen=True)
class Strikes:
    """Which replicas failed for GPU causes on which GPU, and when: by UUID, then replica id, in seconds since the epoch."""

    by_gpu: dict[str, dict[str, float]] = field(default_factory=dict)

    def struck(self, uuids: Iterable[str], replica_id: str, now: float) -> "Strikes":
        """With one more failure; what is older than a day is dropped."""
        by_gpu = {
            uuid: {name: at for name, at in failed.items() if now - at < WINDOW_SECONDS}
            for uuid, failed in self.by_gpu.items()
        }
        for uuid in uuids:
            by_gpu[uuid] = by_gpu.get(uuid, {}) | {replica_id: now}
        return Strikes(by_gpu)

    def forgiven(self, uuid: str) -> "Strikes":
        """Without what was held against a GPU."""
        return replace(self, by_gpu={each: failed for each, failed in self.by_gpu.items() if each != uuid})

    def condemned(self) -> dict[str, list[str]]:
        """The GPUs that enough replicas have failed on, with those replicas."""
        return {uuid: sorted(failed) for uuid, failed in self.by_gpu.items() if len(failed) >= REPLICAS_TO_QUARANTINE}


def explained(failure: Failure, uuids: Iterable[str], xids: Iterable[SeenXid], failed_at: float) -> Failure | None:
    """The failure with the XID that explains it; None when none does, or it is explained already."""
    mine = set(uuids)
    cause = next((x for x in xids if x.uuid in mine and abs(x.at - failed_at) <= XID_NEAR_SECONDS), None)
    if cause is None or f"XID {cause.number} " in failure.message:
        return None
    better = Failure()
    better.CopyFrom(failure)
    better.reason = GPU_FAULT
    better.message = f"GPU {cause.uuid} reported XID {cause.number} when the engine failed: {failure.message}"
    better.hint = cause.message
    return better
