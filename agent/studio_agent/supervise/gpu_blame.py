"""What the GPUs' own reports and replicas' failures say about each other; decided in ``plan.gpu_blame``."""

from collections import deque
from collections.abc import Iterable

from studio.v1.event_pb2 import Event
from studio.v1.replica_pb2 import Failure

from studio_agent.ledger import Ledger
from studio_agent.plan.gpu_blame import GPU_FAULT, SeenXid, explained

REMEMBERED_XIDS = 64
XID_EVENT = "gpu.xid"
# Whom the driver blames in such an event; anybody else is the program itself.
DEVICE_FAULTS = frozenset({"device", "contained"})


class GpuBlame:
    """Remembers XIDs, and in the ledger which replicas failed on which GPU: that must outlast the agent."""

    def __init__(self, ledger: Ledger) -> None:
        self._xids: deque[SeenXid] = deque(maxlen=REMEMBERED_XIDS)
        self._ledger = ledger

    def hear(self, event: Event) -> bool:
        """Take in an event of the GPU sampler; whether it may explain a failure."""
        if event.kind != XID_EVENT or event.reason not in DEVICE_FAULTS:
            return False
        at = event.at.ToNanoseconds() / 1e9
        self._xids.append(SeenXid(event.attributes["gpu"], int(event.attributes["xid"]), event.message, at))
        return True

    def explain(self, failure: Failure, uuids: Iterable[str]) -> Failure | None:
        """The failure with the XID that explains it; None when none does, or it is explained already."""
        return explained(failure, uuids, self._xids, failure.at.ToNanoseconds() / 1e9)

    def strike(self, failure: Failure, replica_id: str, uuids: Iterable[str]) -> dict[str, list[str]]:
        """Hold a failure against the GPUs it happened on; those that are now to be quarantined, with who failed on them."""
        if failure.reason != GPU_FAULT:
            return {}
        strikes = self._ledger.strikes.struck(uuids, replica_id, failure.at.ToNanoseconds() / 1e9)
        condemned = strikes.condemned()
        for uuid in condemned:
            # A GPU that an operator returns to service starts with nothing held against it.
            strikes = strikes.forgiven(uuid)
        self._ledger.hold_against_gpus(strikes)
        return condemned
