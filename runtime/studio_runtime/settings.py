"""Where things live on disk, and how an address is written."""

import os
from dataclasses import dataclass
from pathlib import Path

DEFAULT_COORDINATOR_PORT = 7070
DEFAULT_GATEWAY_PORT = 4000


@dataclass(frozen=True)
class Home:
    """The folder that holds everything of one installation (``STUDIO_HOME``)."""

    root: Path

    @classmethod
    def from_environment(cls) -> "Home":
        """``STUDIO_HOME``, or ``~/.vllm-studio``."""
        named = os.environ.get("STUDIO_HOME")
        return cls(Path(named).expanduser().resolve() if named else Path.home() / ".vllm-studio")

    @property
    def postgres(self) -> Path:
        """Data directory of the embedded PostgreSQL."""
        return self.root / "pg"

    @property
    def coordinator(self) -> Path:
        """State of the coordinator that is not in the database."""
        return self.root / "coordinator"

    @property
    def local_token(self) -> Path:
        """The token of this user for the coordinator of this installation."""
        return self.coordinator / "local-token"

    @property
    def agent(self) -> Path:
        """Ledger, event queue and replica folders of this host's agent."""
        return self.root / "agent"

    @property
    def gateway(self) -> Path:
        """The gateway's last good copy of routes and keys, and its usage spool."""
        return self.root / "gateway"

    @property
    def engines(self) -> Path:
        """Engine environments, one per engine and version."""
        return self.root / "engines"

    @property
    def logs(self) -> Path:
        """Log files of the roles that ``studio up`` starts."""
        return self.root / "logs"

    @property
    def run(self) -> Path:
        """Readiness files, one per role."""
        return self.root / "run"

    @property
    def up_file(self) -> Path:
        """What ``studio up`` tells others once all is ready."""
        return self.root / "up.json"


@dataclass(frozen=True)
class Address:
    """A host and a port."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str, default_port: int = 0) -> "Address":
        """Read ``HOST:PORT``, ``HOST``, ``:PORT`` or ``[V6]:PORT``; raises ValueError with what is wrong."""
        host, port_text = text, ""
        if text.startswith("["):
            host, bracket, rest = text[1:].partition("]")
            if not bracket or (rest and not rest.startswith(":")):
                raise ValueError(f"{text!r} is not an address: expected [IPV6]:PORT")
            port_text = rest[1:]
        elif text.count(":") == 1:
            host, _, port_text = text.partition(":")
        if port_text and not port_text.isdigit():
            raise ValueError(f"{text!r} is not an address: {port_text!r} is not a port number")
        port = int(port_text) if port_text else default_port
        if not 0 <= port <= 65535:  # noqa: PLR2004 - the largest TCP port
            raise ValueError(f"{text!r} is not an address: port {port} is not between 0 and 65535")
        return cls(host or "127.0.0.1", port)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
