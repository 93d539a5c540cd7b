"""What supervision asks of the host's GPUs, and the answer of a host where they cannot be read."""

from collections.abc import Sequence
from typing import Protocol

from studio.v1.host_pb2 import Gpu, GpuFigures


class Gpus(Protocol):
    """The GPUs as their driver shows them; `GpuSampler` is one."""

    def gpus(self) -> Sequence[Gpu]:
        """What work can be placed on, with health."""

    def figures(self) -> dict[str, GpuFigures]:
        """The latest figures by UUID; empty where nothing can be read."""

    def quarantine(self, uuid: str, reason: str) -> None:
        """Give the GPU no more work until an operator has it checked."""


class NoGpus:
    """A host whose GPUs, if it has any, cannot be read."""

    def gpus(self) -> Sequence[Gpu]:
        """None."""
        return ()

    def figures(self) -> dict[str, GpuFigures]:
        """None."""
        return {}

    def quarantine(self, uuid: str, reason: str) -> None:
        """There is nobody to tell."""
