"""One environment on disk: a virtual environment, whole if and only if its marker is there.

A virtual environment cannot be moved once made (its scripts name its own path), so it is made under its final name and the
marker is written last. A folder without a marker is an installation that was broken off; the next one goes on in it. A lock
file beside it lets one installation run at a time; others wait for it and share the result.
"""

import asyncio
import fcntl
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from studio.v1.host_pb2 import EngineEnvironment
from studio.v1.replica_pb2 import StartProgress
from studio_runtime.process import write_atomically

from studio_agent.environments import command
from studio_agent.environments.errors import EnvironmentFailedError, InstallBrokenOffError
from studio_agent.environments.pins import GIB, InstallPlan
from studio_agent.environments.pip_progress import PipProgress

Report = Callable[[StartProgress], None]
MARKER = "studio-environment.json"
SPARE = 1.1
LOCK_POLL_SECONDS = 0.5
PIP = ("-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--progress-bar", "off")


def whole(folder: Path) -> EngineEnvironment | None:
    """The environment in ``folder``; None where there is none, or not a whole one."""
    try:
        fields = json.loads((folder / MARKER).read_bytes())
        program = folder / fields["program"]
        found = EngineEnvironment(engine=fields["engine"], version=fields["version"], path=str(program))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if os.access(program, os.X_OK) else None


async def ensure(plan: InstallPlan, engines_dir: Path, report: Report) -> Path:
    """The program of the environment that ``plan`` describes, which is installed where it is missing.

    Raises EnvironmentFailedError.
    """
    folder = engines_dir / plan.folder_name
    what = f"{plan.engine} {plan.version}"
    if whole(folder) is not None:
        return folder / plan.program
    log = engines_dir / f"{plan.folder_name}.log"
    try:
        await asyncio.to_thread(engines_dir.mkdir, parents=True, exist_ok=True)
        async with _lock(engines_dir / f".{plan.folder_name}.lock", what, report) as lock:
            # Another one may have installed it while this one waited.
            if whole(folder) is None:
                _check_disk(plan, engines_dir)
                await _install(plan, folder, log, lock, report)
    except command.CommandError as error:
        raise _explained(error, what, log) from error
    except OSError as error:
        raise EnvironmentFailedError(
            "engines_dir",
            f"{what} could not be installed: {error}",
            f"The agent must be able to write in {engines_dir}.",
        ) from error
    return folder / plan.program


@asynccontextmanager
async def _lock(file: Path, what: str, report: Report) -> AsyncIterator[int]:
    """Hold ``file``'s lock. Polled, because a thread that waits for a lock cannot be cancelled."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                report(_said(f"waiting for another installation of {what}"))
                await asyncio.sleep(LOCK_POLL_SECONDS)
        yield descriptor
    finally:
        os.close(descriptor)


def _check_disk(plan: InstallPlan, engines_dir: Path) -> None:
    needed_bytes = int(plan.needed_bytes * SPARE)
    free_bytes = shutil.disk_usage(engines_dir).free
    if free_bytes < needed_bytes:
        raise EnvironmentFailedError(
            "disk",
            f"{plan.engine} {plan.version} needs {needed_bytes / GIB:.1f} GiB of disk, but {free_bytes / GIB:.1f} GiB are free",
            f"Free space on the disk of {engines_dir}.",
        )


async def _install(plan: InstallPlan, folder: Path, log: Path, lock: int, report: Report) -> None:
    what = f"{plan.engine} {plan.version}"
    python = folder / "bin" / "python"
    # The installer holds the lock as well, so that an agent which comes after a killed one waits for it to end.
    held = (lock,)
    report(_said(f"installing {what}: making a virtual environment"))
    # Mends a broken virtual environment, and keeps the packages that are in it.
    await command.run((sys.executable, "-m", "venv", str(folder)), log, keep_open=held)
    for pip_run in plan.pip_runs:
        progress = PipProgress(what, pip_run.packages, report)
        await command.run((str(python), *PIP, *pip_run.arguments), log, progress.line, held)
    if plan.alias is not None:
        _add_alias(folder, *plan.alias)
    report(_said(f"installing {what}: checking that it runs"))
    await command.run((str(folder / plan.program), "--version"), log, keep_open=held)
    packages: list[str] = []
    await command.run((str(python), "-m", "pip", "freeze", "--all"), log, packages.append, held)
    fields = {"engine": plan.engine, "version": plan.version, "program": plan.program, "packages": packages}
    await asyncio.to_thread(write_atomically, folder / MARKER, json.dumps(fields, indent=1).encode(), 0o644)


def _add_alias(folder: Path, name: str, version: str) -> None:
    """Make the metadata of a distribution ``name`` findable in the environment."""
    # It was made by this interpreter, so its version is in the path.
    packages = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    metadata = packages / f"{name}-{version}.dist-info" / "METADATA"
    metadata.parent.mkdir(exist_ok=True)
    metadata.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="ascii")


def _explained(error: command.CommandError, what: str, log: Path) -> EnvironmentFailedError:
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
