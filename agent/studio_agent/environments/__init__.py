"""Engine environments and model files: what has to be on the host before an engine can start.

===================  =============================================================================
`ensure_program`     how to run an engine's program, after installing it where need be
`installed`          the environments that are whole
`model_source`       the directory or hub id of a recipe's model
`installation`       one environment on disk: lock, marker, pip
`pins`               which packages make which environment
===================  =============================================================================

Each engine and version has a virtual environment of its own under the engines folder: engines need libraries that exclude one
another, and ours.
"""

import asyncio
import os
import sys
from pathlib import Path
from typing import Protocol

from studio.v1.host_pb2 import EngineEnvironment
from studio.v1.recipe_pb2 import EngineChoice

from studio_agent.environments.errors import EnvironmentFailedError
from studio_agent.environments.installation import Report, ensure, whole
from studio_agent.environments.pins import InstallPlan, plan_for

NVIDIA_CONTROL_DEVICE = Path("/dev/nvidiactl")


class Named(Protocol):
    """The part of an engine driver that is needed here."""

    @property
    def name(self) -> str:
        """What recipes call the engine."""


async def ensure_program(engine: EngineChoice, driver: Named, engines_dir: Path, report: Report) -> tuple[str, ...]:
    """The first words of the engine's command: the program named in ``engine.path``, or that of an environment of ours.

    Installs the environment under ``engines_dir`` where it is missing; ``report`` is called with the progress. Raises
    EnvironmentFailedError. Cancelling it ends the installation, which can be taken up again later.
    """
    if engine.path:
        return (await asyncio.to_thread(_checked_program, engine.path),)
    if driver.name == "demo":
        return (sys.executable, "-m", "studio_agent.demo_engine")
    plan = await asyncio.to_thread(_plan, driver.name, engine.version)
    return (str(await ensure(plan, engines_dir, report)),)


def installed(engines_dir: Path) -> list[EngineEnvironment]:
    """The whole environments under ``engines_dir``, by name."""
    if not engines_dir.is_dir():
        return []
    found = (whole(folder) for folder in sorted(engines_dir.iterdir()) if folder.is_dir())
    return [environment for environment in found if environment is not None]


def _plan(name: str, version: str) -> InstallPlan:
    return plan_for(name, version, has_gpu=NVIDIA_CONTROL_DEVICE.exists())


def _checked_program(path: str) -> str:
    if not Path(path).is_absolute():
        raise EnvironmentFailedError(
            "engine_missing", f"engine.path {path!r} is not absolute", "Write it from the root: /…/bin/vllm."
        )
    if not Path(path).is_file():
        raise EnvironmentFailedError(
            "engine_missing", f"there is no engine at {path} on this host", "Check engine.path."
        )
    if not os.access(path, os.X_OK):
        raise EnvironmentFailedError("engine_missing", f"{path} is not executable", f"Try: chmod +x {path}")
    return path
