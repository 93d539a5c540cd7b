"""One environment on disk: a virtual environment, whole if and only if its marker is there.

A virtual environment cannot be moved once made (its scripts name its own path), so it is made under its final name and the
marker is written last. A folder without a marker is an installation that was broken off; the next one goes on in it. A lock
file beside it lets one installation run at a time; others wait for it and share the result.
"""

import asyncio
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from studio.v1.host_pb2 import EngineEnvironment
from studio.v1.replica_pb2 import StartProgress
from studio_runtime.process import write_atomically

from studio_agent import program
from studio_agent.environments.errors import EnvironmentFailedError, InstallBrokenOffError
from studio_agent.environments.pins import GIB, InstallPlan
from studio_agent.environments.pip_progress import PipProgress
from studio_agent.threads import to_the_end
from studio_agent.turn import turn

Report = Callable[[StartProgress], None]
MARKER = "studio-environment.json"
SPARE = 1.1
PIP = ("-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--progress-bar", "off")


def whole(folder: Path) -> EngineEnvironment | None:
    """The environment in ``folder``; None where there is none, or not a whole one."""
    try:
        fields = json.loads((folder / MARKER).read_bytes())
        found = EngineEnvironment(
            engine=fields["engine"],
            version=fields["version"],
            path=str(folder / fields["program"]),
            # What an older agent installed was not measured.
            disk_bytes=fields.get("disk_bytes", 0),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if os.access(found.path, os.X_OK) else None


async def ensure(plan: InstallPlan, engines_dir: Path, report: Report, wheelhouse: Path | None = None) -> Path:
    """The program of the environment that ``plan`` describes, which is installed where it is missing.

    With ``wheelhouse``, a folder of wheels, nothing is asked from the network. Raises EnvironmentFailedError.
    """
    folder = engines_dir / plan.folder_name
    what = f"{plan.engine} {plan.version}"
    if whole(folder) is not None:
        return folder / plan.program
    log = engines_dir / f"{plan.folder_name}.log"
    try:
        await asyncio.to_thread(engines_dir.mkdir, parents=True, exist_ok=True)
        lock_file = _lock_file(engines_dir, plan.folder_name)
        async with turn(lock_file, lambda: report(_said(f"waiting for another installation of {what}"))) as lock:
            # Another one may have installed it while this one waited.
            if whole(folder) is None:
                _check_wheelhouse(wheelhouse)
                _check_disk(plan, engines_dir)
                await _install(plan, folder, log, lock, report, wheelhouse)
    except program.ProgramError as error:
        raise _explained(error, what, log) from error
    except OSError as error:
        raise EnvironmentFailedError(
            "engines_dir",
            f"{what} could not be installed: {error}",
            f"The agent must be able to write in {engines_dir}.",
        ) from error
    return folder / plan.program


async def remove(engines_dir: Path, folder_name: str) -> None:
    """Remove an environment; one that is being installed is waited for. Raises OSError."""
    folder = engines_dir / folder_name
    async with turn(_lock_file(engines_dir, folder_name), lambda: None):
        # Without its marker it is no environment any more, however much of it is left by a crash.
        await to_the_end((folder / MARKER).unlink, missing_ok=True)
        await to_the_end(shutil.rmtree, folder)
        await to_the_end((engines_dir / f"{folder_name}.log").unlink, missing_ok=True)


def _lock_file(engines_dir: Path, folder_name: str) -> Path:
    return engines_dir / f".{folder_name}.lock"


def _check_wheelhouse(wheelhouse: Path | None) -> None:
    if wheelhouse is not None and not wheelhouse.is_dir():
        raise EnvironmentFailedError(
            "wheelhouse",
            f"there is no wheelhouse {wheelhouse} on this host",
            "Copy the wheels there, or start the agent without --wheelhouse to install from pip's index.",
        )


def _check_disk(plan: InstallPlan, engines_dir: Path) -> None:
    needed_bytes = int(plan.needed_bytes * SPARE)
    free_bytes = shutil.disk_usage(engines_dir).free
    if free_bytes < needed_bytes:
        raise EnvironmentFailedError(
            "disk",
            f"{plan.engine} {plan.version} needs {needed_bytes / GIB:.1f} GiB of disk, but {free_bytes / GIB:.1f} GiB are free",
            f"Free space on the disk of {engines_dir}.",
        )


async def _install(
    plan: InstallPlan, folder: Path, log: Path, lock: int, report: Report, wheelhouse: Path | None
) -> None:
    what = f"{plan.engine} {plan.version}"
    python = folder / "bin" / "python"
    # The installer holds the lock as well, so that an agent which comes after a killed one waits for it to end.
    held = (lock,)
    report(_said(f"installing {what}: making a virtual environment"))
    # Mends a broken virtual environment, and keeps the packages that are in it.
    await program.run((sys.executable, "-m", "venv", str(folder)), log, keep_open=held)
    source = () if wheelhouse is None else ("--no-index", "--find-links", str(wheelhouse))
    for pip_run in plan.pip_runs:
        progress = PipProgress(what, pip_run.packages, report)
        await program.run((str(python), *PIP, *source, *pip_run.arguments), log, progress.line, held)
    if plan.alias is not None:
        _add_alias(folder, *plan.alias)
    report(_said(f"installing {what}: checking that it runs"))
    await program.run((str(folder / plan.program), *plan.proof), log, keep_open=held)
    packages: list[str] = []
    await program.run((str(python), "-m", "pip", "freeze", "--all"), log, packages.append, held)
    fields = {
        "engine": plan.engine,
        "version": plan.version,
        "program": plan.program,
        "disk_bytes": await asyncio.to_thread(_disk_bytes, folder),
        "packages": packages,
    }
    await asyncio.to_thread(write_atomically, folder / MARKER, json.dumps(fields, indent=1).encode(), 0o644)


def _disk_bytes(folder: Path) -> int:
    """What the files below ``folder`` take on disk."""
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*"))


def _add_alias(folder: Path, name: str, version: str) -> None:
    """Make the metadata of a distribution ``name`` findable in the environment."""
    # It was made by this interpreter, so its version is in the path.
    packages = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    metadata = packages / f"{name}-{version}.dist-info" / "METADATA"
    metadata.parent.mkdir(exist_ok=True)
    metadata.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="ascii")


def _explained(error: program.ProgramError, what: str, log: Path) -> EnvironmentFailedError:
    errors = [line.removeprefix("ERROR: ") for line in error.lines if line.startswith("ERROR")]
    said = errors[-1] if errors else next((line for line in reversed(error.lines) if line), str(error))
    text = "\n".join(error.lines)
    if "No space left on device" in text:
        return EnvironmentFailedError(
            "disk", f"the disk filled up while {what} was installed", f"Free space for {log.parent}."
        )
    if "No matching distribution found" in text:
        return EnvironmentFailedError(
            "package_missing",
            f"{what} could not be installed: {said}",
            f"Check pip's package index on this host. Log: {log}",
        )
    return InstallBrokenOffError(
        "install_failed", f"{what} could not be installed: {said}", f"The whole story is in {log}"
    )


def _said(detail: str) -> StartProgress:
    return StartProgress(phase=StartProgress.PHASE_ENVIRONMENT, detail=detail)
