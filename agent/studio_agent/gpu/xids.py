"""XIDs, the error numbers of the NVIDIA driver, as versioned data.

What the driver says about recovery comes first (see `health`); this table speaks where the driver does not. A number
that is missing here is taken for the device's fault, unless the driver says that no recovery is needed.

Numbers and names follow NVIDIA's XID catalog. An application's own fault are those that NVIDIA's Kubernetes device
plugin skips (13, 31, 43, 45, 68, 109), and 8 and 69, where the catalog's first advice is to restart the application.
"""

from dataclasses import dataclass
from enum import Enum

XID_TABLE_VERSION = "2026-11"


class Fault(Enum):
    """Whose fault it is, and what follows for the GPU."""

    # The program that ran on it: the GPU is as good as before.
    TENANT = "tenant"
    # Nobody's: the driver tells that something changed, and other evidence says what.
    NOTICE = "notice"
    # The device, which has contained it: it works on, with less margin.
    CONTAINED = "contained"
    # The device: nothing new is placed on it.
    DEVICE = "device"


@dataclass(frozen=True)
class XidMeaning:
    """What a number says, and what to do about it."""

    name: str
    fault: Fault
    advice: str


READ_THE_LOG = "Look at the replica's log."
WATCH = "Reset the GPU at the next quiet moment."
RESET = "Drain the host and reset the GPU (nvidia-smi --gpu-reset)."
REBOOT = "Drain and reboot the host; replace the GPU if it comes back."
INSPECT = "Check the NVLink connectors and the fabric manager, then reset the GPU."

XIDS: dict[int, XidMeaning] = {
    8: XidMeaning("GPU stopped processing", Fault.TENANT, READ_THE_LOG),
    13: XidMeaning("graphics engine exception", Fault.TENANT, READ_THE_LOG),
    31: XidMeaning("GPU memory page fault", Fault.TENANT, READ_THE_LOG),
    43: XidMeaning("the application's channel was reset", Fault.TENANT, READ_THE_LOG),
    45: XidMeaning("the application's channels were removed", Fault.TENANT, READ_THE_LOG),
    48: XidMeaning("double-bit ECC error", Fault.DEVICE, RESET),
    61: XidMeaning("internal microcontroller breakpoint", Fault.DEVICE, RESET),
    62: XidMeaning("internal microcontroller halt", Fault.DEVICE, RESET),
    63: XidMeaning("memory row remapping recorded", Fault.CONTAINED, WATCH),
    64: XidMeaning("memory row remapping failed", Fault.DEVICE, REBOOT),
    68: XidMeaning("video decoder exception", Fault.TENANT, READ_THE_LOG),
    69: XidMeaning("graphics engine class error", Fault.TENANT, READ_THE_LOG),
    74: XidMeaning("NVLink error", Fault.DEVICE, INSPECT),
    79: XidMeaning("GPU has fallen off the bus", Fault.DEVICE, REBOOT),
    92: XidMeaning("high rate of single-bit ECC errors", Fault.CONTAINED, WATCH),
    94: XidMeaning("contained memory error", Fault.CONTAINED, WATCH),
    95: XidMeaning("uncontained memory error", Fault.DEVICE, RESET),
    109: XidMeaning("context switch timed out", Fault.TENANT, READ_THE_LOG),
    119: XidMeaning("GPU system processor did not answer", Fault.DEVICE, RESET),
    120: XidMeaning("GPU system processor error", Fault.DEVICE, RESET),
    121: XidMeaning("corrected error on the chip-to-chip link", Fault.CONTAINED, WATCH),
    140: XidMeaning("unrecovered ECC error", Fault.DEVICE, RESET),
    143: XidMeaning("GPU initialization failed", Fault.DEVICE, REBOOT),
    154: XidMeaning("the GPU's recovery action changed", Fault.NOTICE, "See the recovery action."),
}
