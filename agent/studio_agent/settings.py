"""What the agent is told when it starts, and where it keeps things."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from studio_runtime.identity.folder import IdentityFolder
from studio_runtime.process import write_atomically
from studio_runtime.settings import Address

from studio_agent.plan.health import HealthLimits
from studio_agent.plan.restarts import RestartPolicy
from studio_agent.plan.start_limits import StartLimits

# What starts engines: this agent itself, or systemd as another user.
LauncherName = Literal["process", "systemd"]
# Where `path://` may point on a host whose administrator has not said.
MODEL_ROOTS = (Path("/var/lib/studio/models"), Path("/srv/models"))


@dataclass(frozen=True)
class StateFolder:
    """The agent's folder on disk; one live agent owns it."""

    root: Path

    @property
    def ledger(self) -> Path:
        """What was accepted and started."""
        return self.root / "ledger.json"

    @property
    def events(self) -> Path:
        """Events that are not acknowledged yet."""
        return self.root / "events.jsonl"

    @property
    def gpu_health(self) -> Path:
        """Verdicts on GPUs, which outlast the agent."""
        return self.root / "gpu-health.json"

    @property
    def commands(self) -> Path:
        """Results of the last commands."""
        return self.root / "commands.json"

    @property
    def cache(self) -> Path:
        """Compile caches of the engines."""
        return self.root / "cache"

    @property
    def replicas(self) -> Path:
        """One folder for each replica."""
        return self.root / "replicas"

    def replica(self, replica_id: str) -> Path:
        """The folder of one replica: its log and its launch note."""
        return self.replicas / replica_id

    def log(self, replica_id: str) -> Path:
        """Where the engines of a replica write, one after the other."""
        return self.replica(replica_id) / "engine.log"

    def launch_note(self, replica_id: str) -> Path:
        """The record of the newest start, a second copy of what the ledger says."""
        return self.replica(replica_id) / "launch.json"

    @property
    def identity(self) -> IdentityFolder:
        """Key, certificate and trusted authorities of a host that has joined."""
        return IdentityFolder(self.root / "identity")

    def host_id(self) -> str:
        """This host's id: of its certificate, or where the connection proves none made once; kept for ever."""
        if self.has_host_id:
            return self._host_id.read_text(encoding="utf-8").strip()
        made = secrets.token_hex(8)
        self.keep_host_id(made)
        return made

    @property
    def has_host_id(self) -> bool:
        """Whether this host was called something already."""
        return self._host_id.exists()

    def keep_host_id(self, host_id: str) -> None:
        """Call this host so from now on."""
        write_atomically(self._host_id, host_id.encode())

    @property
    def _host_id(self) -> Path:
        return self.root / "host-id"


@dataclass(frozen=True)
class PortRange:
    """Ports for engines, both ends included."""

    first: int
    last: int

    @classmethod
    def parse(cls, text: str) -> "PortRange":
        """Read ``FIRST-LAST``; raises ValueError with what is wrong."""
        first, _, last = text.partition("-")
        if not (first.isdigit() and last.isdigit()) or not 1024 <= int(first) <= int(last) <= 65535:  # noqa: PLR2004 - TCP
            raise ValueError(f"{text!r} is not a range of ports: expected FIRST-LAST between 1024 and 65535")
        return cls(int(first), int(last))


@dataclass(frozen=True)
class StopLimits:
    """How long the steps of a stop may take where the assignment says nothing."""

    drain_seconds: float = 30.0
    grace_seconds: float = 15.0
    # From SIGKILL until what still lives is called unkillable.
    kill_seconds: float = 10.0
    # Between two more looks at what does not go: what is unkillable, and memory that is stuck.
    kill_again_seconds: float = 5.0
    # From the end of the last process until GPU memory that is still in use is called stuck.
    memory_seconds: float = 60.0


@dataclass(frozen=True)
class AgentSettings:
    """Everything that ``studio-agent run`` was told."""

    state: StateFolder
    engines_dir: Path
    host_name: str
    engine_address: str = "127.0.0.1"
    engine_ports: PortRange = PortRange(20_000, 29_999)
    labels: Mapping[str, str] = field(default_factory=dict)
    launcher: LauncherName = "process"
    # From SIGTERM to SIGKILL, whatever the assignment says; None: as it says.
    stop_grace_seconds: float | None = None
    # Somebody is in a hurry: nothing is drained, and SIGKILL follows SIGTERM at once.
    hurried: bool = False
    start: StartLimits = field(default_factory=StartLimits)
    stop: StopLimits = StopLimits()
    health: HealthLimits = field(default_factory=HealthLimits)
    restarts: RestartPolicy = field(default_factory=RestartPolicy)
    # What each request that makes an engine sleep, or wakes it, may take.
    sleep_seconds: float = 120.0
    # None: beside the engines.
    models_dir: Path | None = None
    # What `path://` may name beside those files.
    model_roots: Sequence[Path] = MODEL_ROOTS
    # Wheels to install engines from on a host without a network.
    wheelhouse: Path | None = None

    @property
    def models(self) -> Path:
        """Model files, as large as they come."""
        return self.models_dir or self.engines_dir.parent / "models"


@dataclass(frozen=True)
class RunSettings:
    """Where a running agent connects and shows itself."""

    # Of one installation; one of them leads.
    coordinators: Sequence[Address]
    metrics: Address | None = None
    ready_file: Path | None = None
    # What says who calls, on a loopback listener that asks for it.
    token_file: Path | None = None
