"""Engine environments: the programs of engines, each with the libraries that it wants.

===================  =============================================================================
`ensure_program`     how to run an engine's program, after installing it where need be
`installed`          the environments that are whole
`shelf`              those of this host, in memory: list, install, remove
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

from studio.v1.host_pb2 import EngineEnvironment
from studio.v1.recipe_pb2 import EngineChoice

from studio_agent.environments.errors import EnvironmentFailedError
from studio_agent.environments.installation import Report, ensure, whole
from studio_agent.environments.pins import InstallPlan, plan_for

NVIDIA_CONTROL_DEVICE = Path("/dev/nvidiactl")


async def ensure_program(
    engine: EngineChoice, engines_dir: Path, report: Report, wheelhouse: Path | None = None
) -> tuple[str, ...]:
    """The first words of the engine's command: the program named in ``engine.path``, or that of an environment of ours.

    Installs the environment under ``engines_dir`` where it is missing, from the wheels in ``wheelhouse`` where one is given;
    ``report`` is called with the progress. Raises EnvironmentFailedError. Cancelling it ends the installation, which can be taken
    up again later.
    """
    if engine.path:
        return (await asyncio.to_thread(_checked_program, engine.path),)
    if engine.name == "demo":
        return (sys.executable, "-m", "studio_agent.demo_engine")
    plan = await asyncio.to_thread(planned, engine.name, engine.version)
    return (str(await ensure(plan, engines_dir, report, wheelhouse)),)


def installed(engines_dir: Path) -> list[EngineEnvironment]:
    """The whole environments under ``engines_dir``, by name."""
    if not engines_dir.is_dir():
        return []
    found = (whole(folder) for folder in sorted(engines_dir.iterdir()) if folder.is_dir())
    return [environment for environment in found if environment is not None]


def planned(name: str, version: str) -> InstallPlan:
    """The environment of engine ``name`` in ``version`` ("": the tested one) on this host. Raises EnvironmentFailedError."""
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
