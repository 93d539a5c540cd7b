"""What supervision works with on this host."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from studio_agent.environments.shelf import EngineShelf
from studio_agent.latest import Latest
from studio_agent.launch import Launcher
from studio_agent.ledger import Ledger
from studio_agent.models.cache import ModelCache
from studio_agent.probe import Prober
from studio_agent.secrets import SecretBox
from studio_agent.settings import AgentSettings
from studio_agent.supervise.event_log import EventLog
from studio_agent.supervise.gpu_blame import GpuBlame
from studio_agent.supervise.gpus import Gpus, NoGpus
from studio_agent.supervise.readings import Readings


@dataclass(frozen=True)
class GpuRoom:
    """Memory of a set of GPUs: that of the smallest, and what is free on the fullest. 0: unknown."""

    total_bytes: int = 0
    free_bytes: int = 0


@dataclass(frozen=True)
class Equipment:
    """The host's parts, each with one task."""

    settings: AgentSettings
    ledger: Ledger
    launcher: Launcher
    prober: Prober
    events: EventLog
    engines: EngineShelf
    models: ModelCache
    boot_id: str
    # Bumped by every change of the ledger or a new event: whoever persists or reports waits for it.
    changes: Latest[None]
    # The room on GPUs, by their UUIDs.
    gpu_room: Callable[[Sequence[str]], GpuRoom] = lambda _uuids: GpuRoom()
    gpus: Gpus = field(default_factory=NoGpus)
    readings: Readings = field(default_factory=Readings)
    # What is held against GPUs is in the ledger.
    blame: GpuBlame = field(init=False)
    # Without a session nothing is known, and an engine that needs a secret waits.
    secrets: SecretBox = field(default_factory=lambda: SecretBox(Latest(None), ""))

    def __post_init__(self) -> None:
        """Make what follows from the other parts."""
        object.__setattr__(self, "blame", GpuBlame(self.ledger))

    def now(self) -> float:
        """Seconds since the epoch."""
        return time.time()
