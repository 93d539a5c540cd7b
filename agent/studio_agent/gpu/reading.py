"""What the child reads beside the contract's messages: evidence about health, and counters of the links."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

Vendor = Literal["nvidia", "amd"]


class RecoveryAction(IntEnum):
    """What the driver says must be done to a GPU; numbers of NVML (field 230)."""

    NONE = 0
    GPU_RESET = 1
    NODE_REBOOT = 2
    DRAIN_P2P = 3
    DRAIN_AND_RESET = 4
    RECOVER_IMEX_DOMAIN = 5
    BUS_RESET = 6
    SYSTEM_REBOOT = 7


@dataclass(frozen=True)
class Condition:
    """The state of one physical GPU as its driver tells it; None is absent."""

    uuid: str
    # Why the driver has given it up; empty while it answers.
    lost: str = ""
    # A `RecoveryAction`, or a number that is newer than this table.
    recovery_action: int | None = None
    remap_pending: bool | None = None
    remap_failed: bool | None = None
    # In MIG mode: work goes to its instances.
    partitioned: bool = False


@dataclass(frozen=True)
class Xid:
    """An error that the driver reported for a GPU."""

    uuid: str
    number: int
    # Seconds since the epoch.
    at: float


@dataclass(frozen=True)
class LinkCounters:
    """Bytes since the driver was loaded; None is absent."""

    uuid: str
    pcie_sent_bytes: int | None = None
    pcie_received_bytes: int | None = None
    nvlink_sent_bytes: int | None = None
    nvlink_received_bytes: int | None = None
