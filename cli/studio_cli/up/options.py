"""What ``studio up`` was asked for."""

from dataclasses import dataclass
from pathlib import Path

from studio_runtime.settings import DEFAULT_COORDINATOR_PORT, DEFAULT_GATEWAY_PORT, Address


@dataclass(frozen=True)
class UpOptions:
    """The options of the command line; empty where they were not given."""

    gateway_port: int = DEFAULT_GATEWAY_PORT
    coordinator_port: int = DEFAULT_COORDINATOR_PORT
    engine: str = ""
    model: str = ""
    engine_path: str = ""
    name: str = ""
    # How long to wait until the first recipe is ready.
    timeout_seconds: float = 3600.0
    # Empty: the embedded PostgreSQL.
    database_url: str = ""
    # Output goes to a file and somebody else prints the key.
    detached: bool = False

    @property
    def gateway(self) -> Address:
        """Where the gateway listens."""
        return Address("127.0.0.1", self.gateway_port)

    @property
    def coordinator(self) -> Address:
        """Where the coordinator listens."""
        return Address("127.0.0.1", self.coordinator_port)

    @property
    def asks_for_recipe(self) -> bool:
        """Whether a certain recipe was asked for, rather than whatever is there."""
        return bool(self.engine or self.model or self.engine_path or self.name)

    @property
    def model_directory(self) -> Path | None:
        """The model's directory where ``model`` names one, rather than a model of a hub."""
        looks_like_path = self.model.startswith(("/", "./", "../", "~", "path://")) or self.model in (".", "..")
        folder = Path(self.model.removeprefix("path://")).expanduser()
        return folder.resolve() if self.model and (looks_like_path or folder.is_dir()) else None


def arguments_of(options: UpOptions) -> list[str]:
    """``options`` as they are typed; the database's URL is not among them, it stays in the environment."""
    arguments = ["--gateway-port", str(options.gateway_port), "--coordinator-port", str(options.coordinator_port)]
    arguments += ["--timeout", str(options.timeout_seconds)]
    for flag, value in (
        ("--engine", options.engine),
        ("--model", options.model),
        ("--engine-path", options.engine_path),
        ("--name", options.name),
    ):
        arguments += [flag, value] if value else []
    return arguments
