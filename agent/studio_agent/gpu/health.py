"""GPU health: evidence → healthy, degraded or quarantined. Pure.

              evidence                     evidence
    HEALTHY ◄──────────► DEGRADED ───────────────────► QUARANTINED
       │                                                ▲     │
       └────────────────── evidence ────────────────────┘     │ only `recheck`,
    any state ◄───────────────────────────────────────────────┘ asked for by an operator

Order of evidence, the first that speaks decides:
1. the driver lost the GPU → quarantined;
2. the driver names a recovery action → quarantined;
3. remapping of memory rows failed → quarantined;
4. XIDs by the table in `xids`: the worst of them;
5. rows wait to be remapped → degraded.

A quarantine stays, and so does a degradation by an XID, because the event that caused it does not come twice. A
degradation by something that can be read again goes when the reading goes.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from studio.v1.host_pb2 import Gpu

from studio_agent.gpu.reading import Condition, RecoveryAction, Xid
from studio_agent.gpu.xids import XIDS, Fault, XidMeaning

UNSPECIFIED = Gpu.Health.HEALTH_UNSPECIFIED
HEALTHY = Gpu.Health.HEALTH_HEALTHY
DEGRADED = Gpu.Health.HEALTH_DEGRADED
QUARANTINED = Gpu.Health.HEALTH_QUARANTINED

# Changes that evidence alone may cause.
TRANSITIONS: frozenset[tuple[Gpu.Health.ValueType, Gpu.Health.ValueType]] = frozenset(
    {(HEALTHY, DEGRADED), (HEALTHY, QUARANTINED), (DEGRADED, HEALTHY), (DEGRADED, QUARANTINED)}
)

ACTIONS: dict[int, str] = {
    RecoveryAction.GPU_RESET: "the GPU has to be reset",
    RecoveryAction.NODE_REBOOT: "the host has to be rebooted",
    RecoveryAction.DRAIN_P2P: "traffic between this GPU and others has to be drained",
    RecoveryAction.DRAIN_AND_RESET: "the GPU has to be drained and reset",
    RecoveryAction.RECOVER_IMEX_DOMAIN: "the memory exchange domain has to be recovered",
    RecoveryAction.BUS_RESET: "the GPU's bus has to be reset",
    RecoveryAction.SYSTEM_REBOOT: "the whole system has to be rebooted",
}


@dataclass(frozen=True)
class GpuHealth:
    """A verdict with its sentence. ``kept`` verdicts outlast their evidence; the agent stores them across restarts."""

    health: Gpu.Health.ValueType = HEALTHY
    reason: str = ""
    kept: bool = False


def health(previous: GpuHealth, condition: Condition, xids: Iterable[Xid] = ()) -> GpuHealth:
    """The verdict after new evidence; ``xids`` are those of this GPU since the last call."""
    verdict = _judge(condition, xids)
    if previous.health == QUARANTINED or (previous.kept and previous.health >= verdict.health):
        return previous
    return verdict


def recheck(condition: Condition) -> GpuHealth:
    """The verdict after an operator had the GPU looked at: only what can be read now counts."""
    return _judge(condition, ())


def meaning_of(number: int, recovery_action: int | None) -> XidMeaning:
    """What the table says; an unknown XID is the device's fault unless the driver sees nothing to recover."""
    known = XIDS.get(number)
    if known is not None:
        return known
    fault = Fault.CONTAINED if recovery_action == RecoveryAction.NONE else Fault.DEVICE
    return XidMeaning("an error this version does not know", fault, "Look the number up in NVIDIA's XID document.")


def _judge(condition: Condition, xids: Iterable[Xid]) -> GpuHealth:
    if condition.lost:
        return GpuHealth(QUARANTINED, f"The driver has lost the GPU: {condition.lost}.", kept=True)
    if condition.recovery_action not in (None, RecoveryAction.NONE):
        action = ACTIONS.get(condition.recovery_action, f"recovery action {condition.recovery_action} is needed")
        return GpuHealth(QUARANTINED, f"The driver says that {action}.", kept=True)
    if condition.remap_failed:
        return GpuHealth(QUARANTINED, "Remapping of memory rows failed: the GPU has to be replaced.", kept=True)
    by_xid = max((_judge_xid(xid, condition) for xid in xids), key=lambda each: each.health, default=GpuHealth())
    if by_xid.health != HEALTHY:
        return by_xid
    if condition.remap_pending:
        return GpuHealth(DEGRADED, "Memory rows wait to be remapped: reset the GPU at the next quiet moment.")
    return GpuHealth()


def _judge_xid(xid: Xid, condition: Condition) -> GpuHealth:
    meaning = meaning_of(xid.number, condition.recovery_action)
    if meaning.fault in {Fault.TENANT, Fault.NOTICE}:
        return GpuHealth()
    verdict = QUARANTINED if meaning.fault is Fault.DEVICE else DEGRADED
    return GpuHealth(verdict, f"XID {xid.number}, {meaning.name}. {meaning.advice}", kept=True)
