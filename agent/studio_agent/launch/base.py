"""What supervision asks of a launcher."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from studio_runtime.errors import StudioError
from studio_runtime.process import ProcessIdentity

from studio_agent.plan.record import Engine


class LaunchError(StudioError):
    """The engine's program could not be started."""

    reason = "launch_failed"
    retryable = True


@dataclass(frozen=True)
class FoundEngine:
    """An engine of this host that a survey found running."""

    token: str
    # The leader of its session; None when only others of its tree are left.
    leader: ProcessIdentity | None
    cgroup: str


class Launcher(Protocol):
    """Starts engines so that they outlive the agent, and ends them whole."""

    def cgroup_for(self, token: str) -> str:
        """The cgroup-v2 folder that an engine with ``token`` will have; "" where there are none."""

    async def start(self, engine: Engine, argv: Sequence[str], env: dict[str, str]) -> Engine:
        """Start ``argv`` and return ``engine`` with its identity. Raises LaunchError."""

    def is_running(self, engine: Engine) -> bool:
        """Whether the engine's leader, and not another process with its pid, runs."""

    async def exited(self, engine: Engine) -> int | None:
        """Wait for the end of the engine's leader: its exit code (negative: a signal), None where it cannot be known."""

    async def terminate(self, engine: Engine) -> None:
        """Ask the engine's leader to stop (SIGTERM)."""

    async def members(self, engine: Engine) -> list[ProcessIdentity]:
        """Every live process of the engine's tree."""

    async def abort(self, engine: Engine) -> None:
        """SIGABRT to the whole tree: Python processes write to the log where they stand, and end."""

    async def kill(self, engine: Engine) -> None:
        """Kill the whole tree (SIGKILL); returns before the processes are gone."""

    async def release(self, engine: Engine) -> None:
        """Give back what the launcher keeps for an engine of which nothing is left."""

    async def survey(self, known: Collection[str] = ()) -> list[FoundEngine]:
        """Every engine of this host that has a live process; for an agent that begins.

        What the launcher keeps for others is given back, except for engines with the tokens ``known``: how they ended is still
        to be asked.
        """
