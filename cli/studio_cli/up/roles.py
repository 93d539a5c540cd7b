"""The table of roles: how each is started, says that it is ready, and is stopped. Pure: nothing is started here."""

import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from studio_runtime.settings import Home

from studio_cli.up.options import UpOptions
from studio_cli.up.readiness import PostmasterFile, Readiness, ReadyFile


@dataclass(frozen=True)
class Role:
    """One process of the system."""

    name: str
    argv: tuple[str, ...]
    log: Path
    readiness: Readiness
    stop_signal: signal.Signals = signal.SIGTERM
    # After this it is killed.
    stop_seconds: float = 15.0
    # How long its first start may take.
    ready_seconds: float = 60.0
    # Run to its end once the role has stopped, within `epilogue_seconds`.
    epilogue: tuple[str, ...] = ()
    epilogue_seconds: float = 120.0
    # What the epilogue does, in the words of the report.
    epilogue_name: str = ""


def roles_of(home: Home, options: UpOptions, host_name: str, python: str = sys.executable) -> list[Role]:
    """The roles in the order in which they start; they stop in the opposite one."""
    coordinator = str(options.coordinator)

    def role_argv(module: str, *arguments: str) -> tuple[str, ...]:
        return (python, "-m", module, *arguments)

    def served(name: str) -> tuple[str, ...]:
        return ("--metrics", "127.0.0.1:0", "--ready-file", str(home.run / f"{name}.json"))

    def ready_file(name: str) -> ReadyFile:
        return ReadyFile(home.run / f"{name}.json")

    postgres = Role(
        name="postgres",
        argv=role_argv("studio_coordinator", "postgres", "--data-dir", str(home.postgres)),
        log=home.logs / "postgres.log",
        readiness=PostmasterFile(home.postgres / "postmaster.pid"),
        # SIGTERM would wait for clients; this ends their sessions and writes a checkpoint.
        stop_signal=signal.SIGINT,
        stop_seconds=30.0,
        # The first start makes the cluster.
        ready_seconds=120.0,
    )
    # The URL of a database goes through the environment: it may hold a password.
    database = () if options.database_url else ("--embedded-data-dir", str(home.postgres))
    return [
        *([] if options.database_url else [postgres]),
        Role(
            name="coordinator",
            argv=role_argv(
                "studio_coordinator",
                "serve",
                *("--listen", coordinator),
                *("--state-dir", str(home.coordinator)),
                # Its port is on loopback, which is everybody's on this machine.
                "--require-tokens",
                *database,
                *served("coordinator"),
            ),
            log=home.logs / "coordinator.log",
            readiness=ready_file("coordinator"),
        ),
        Role(
            name="agent",
            argv=role_argv(
                "studio_agent",
                "run",
                *("--coordinator", coordinator),
                *("--state-dir", str(home.agent)),
                *("--engines-dir", str(home.engines)),
                # All is one user's: recipes may name what this user may read.
                *("--model-root", "/"),
                *("--token-file", str(home.local_token)),
                *("--host-name", host_name),
                *served("agent"),
            ),
            log=home.logs / "agent.log",
            readiness=ready_file("agent"),
            epilogue=role_argv("studio_agent", "stop-engines", "--state-dir", str(home.agent)),
            epilogue_name="engines",
        ),
        Role(
            name="gateway",
            argv=role_argv(
                "studio_gateway",
                *("--listen", str(options.gateway)),
                *("--coordinator", coordinator),
                *("--state-dir", str(home.gateway)),
                *("--token-file", str(home.local_token)),
                *served("gateway"),
            ),
            log=home.logs / "gateway.log",
            readiness=ready_file("gateway"),
        ),
    ]
