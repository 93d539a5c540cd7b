"""The engine environments of this host: what is installed, and what is put there or taken away on demand."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from studio.v1.host_pb2 import EngineEnvironment
from studio.v1.recipe_pb2 import EngineChoice
from studio_runtime.errors import InvalidError, NotFoundError

from studio_agent.environments import ensure_program, installed, planned
from studio_agent.environments.errors import EnvironmentFailedError
from studio_agent.environments.installation import Report, remove
from studio_agent.environments.pins import folder_name

SEE_LIST = "See studio engines list."


class EngineShelf:
    """Keeps the list of environments in memory; ``changed`` is called after each change of it."""

    def __init__(
        self, engines_dir: Path, wheelhouse: Path | None = None, changed: Callable[[], None] = lambda: None
    ) -> None:
        self._engines_dir = engines_dir
        self._wheelhouse = wheelhouse
        self._changed = changed
        self._installed: list[EngineEnvironment] = []

    async def load(self) -> None:
        """Look at what is installed."""
        found = await asyncio.to_thread(installed, self._engines_dir)
        if found != self._installed:
            self._installed = found
            self._changed()

    def installed(self) -> list[EngineEnvironment]:
        """The whole environments, by name."""
        return self._installed

    async def program(self, engine: EngineChoice, report: Report) -> tuple[str, ...]:
        """The first words of the engine's command, after installing it where need be. Raises EnvironmentFailedError."""
        words = await ensure_program(engine, self._engines_dir, report, self._wheelhouse)
        await self.load()
        return words

    def choose(self, engine: str, version: str) -> EngineEnvironment:
        """The environment of ``engine`` in ``version`` ("": the only one). Raises NotFoundError or InvalidError."""
        found = [one for one in self._installed if one.engine == engine and version in ("", one.version)]
        if not found:
            raise NotFoundError(f"{engine} {version}".rstrip() + " is not installed on this host", SEE_LIST)
        if len(found) > 1:
            versions = ", ".join(one.version for one in found)
            raise InvalidError(f"there are several versions of {engine} on this host: {versions}", "Name one of them.")
        return found[0]

    async def remove(self, environment: EngineEnvironment) -> None:
        """Remove an environment of this shelf. Raises OSError."""
        await remove(self._engines_dir, folder_name(environment.engine, environment.version))
        await self.load()


def runs_from(engine: EngineChoice, environment: EngineEnvironment) -> bool:
    """Whether a recipe's ``engine`` runs from ``environment``."""
    if engine.path or engine.name != environment.engine:
        return False
    try:
        return planned(engine.name, engine.version).version == environment.version
    except EnvironmentFailedError:
        return False
