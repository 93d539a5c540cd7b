"""Archives of wheels to provision hosts from, made of this checkout: as it is, and as a later version of itself."""

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

from fleet.rootfs import CACHE
from fleet.studio_host import CHECKOUT, SOURCES

# Beside the sources, what a wheel is made from.
REST = ("systemd", "hatch_build.py", "pyproject.toml", "requirements.lock", "README.md", "LICENSE")
NONE: Mapping[str, tuple[str, str]] = {}


def version() -> str:
    """The checkout's own version."""
    declared: str = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["version"]
    return declared


def archive(folder: Path, stands_for: str = "", faults: Mapping[str, tuple[str, str]] = NONE) -> Path:
    """Make the archive in ``folder``; the version ``stands_for`` takes the place of the checkout's own.

    ``faults`` names files and in each a text and what it becomes. Raises CalledProcessError.
    """
    checkout = _with_version(folder / "source", stands_for) if stands_for else CHECKOUT
    for file, (right, wrong) in faults.items():
        text = (checkout / file).read_text()
        assert text.count(right) == 1, f"{file} does not have {right!r} once"
        (checkout / file).write_text(text.replace(right, wrong))
    program = (sys.executable, str(CHECKOUT / "ansible/wheelhouse.py"))
    made = subprocess.run(
        [*program, str(folder), "--checkout", str(checkout), "--wheels", str(CACHE / "wheels")],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return Path(made.stdout.strip())


def _with_version(folder: Path, version: str) -> Path:
    for name in SOURCES:
        shutil.copytree(CHECKOUT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in REST:
        copy = shutil.copytree if (CHECKOUT / name).is_dir() else shutil.copy2
        copy(CHECKOUT / name, folder / name)
    project = folder / "pyproject.toml"
    text, found = re.subn(r'^version = ".*"$', f'version = "{version}"', project.read_text(), flags=re.MULTILINE)
    assert found == 1
    project.write_text(text)
    return folder
