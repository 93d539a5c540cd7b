"""What supervision asks of the host's GPUs, and the answer of a host where they cannot be read."""

from typing import Protocol

from studio.v1.host_pb2 import GpuFigures

from studio_agent.gpu.reading import Vendor


class Gpus(Protocol):
    """The GPUs as their driver shows them; `GpuSampler` is one."""

    @property
    def vendor(self) -> Vendor:
        """Whose they are: engines are told their GPUs in the vendor's words."""

    def quarantined(self) -> dict[str, str]:
        """GPUs that get no work, with the reason, by UUID."""

    def figures(self) -> dict[str, GpuFigures]:
        """The latest figures by UUID; empty where nothing can be read."""

    def quarantine(self, uuid: str, reason: str) -> None:
        """Give the GPU no more work until an operator has it checked."""


class NoGpus:
    """A host whose GPUs, if it has any, cannot be read."""

    vendor: Vendor = "nvidia"

    def quarantined(self) -> dict[str, str]:
        """None."""
        return {}

    def figures(self) -> dict[str, GpuFigures]:
        """None."""
        return {}

    def quarantine(self, uuid: str, reason: str) -> None:
        """There is nobody to tell."""
