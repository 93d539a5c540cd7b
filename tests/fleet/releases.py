"""Archives of wheels to provision hosts from, made of this checkout: as it is, and as a later version of itself."""

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

from fleet.rootfs import CACHE
from fleet.studio_host import CHECKOUT, SOURCES

# Beside the sources, what a wheel is made from.
REST = ("systemd", "hatch_build.py", "pyproject.toml", "requirements.lock", "README.md", "LICENSE")
MIGRATIONS = "coordinator/studio_coordinator/store/migrations/versions"
# Of a release with another schema, which expands it as all do: the release before works with it.
STEP = """
import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = "{before}"


def upgrade() -> None:
    op.create_table("of_a_later_release", sa.Column("id", sa.Integer(), primary_key=True))


def downgrade() -> None:
    op.drop_table("of_a_later_release")
"""


def version() -> str:
    """The checkout's own version."""
    declared: str = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["version"]
    return declared


def schema() -> str:
    """The revision of the checkout's schema."""
    return max(file.name.partition("_")[0] for file in (CHECKOUT / MIGRATIONS).glob("0*.py"))


def next_schema() -> str:
    """The revision that ``with_next_schema`` adds."""
    return f"{int(schema()) + 1:04}"


def with_next_schema(source: Path) -> None:
    """Change the sources of a later release: its schema has one revision more."""
    step = STEP.format(revision=next_schema(), before=schema())
    (source / MIGRATIONS / f"{next_schema()}_of_a_later_release.py").write_text(step)


def archive(folder: Path, stands_for: str = "", change: Callable[[Path], None] = lambda _source: None) -> Path:
    """Make the archive in ``folder``.

    The version ``stands_for`` takes the place of the checkout's own, and ``change`` is given its sources. Raises
    CalledProcessError.
    """
    checkout = CHECKOUT
    if stands_for:
        checkout = _with_version(folder / "source", stands_for)
        change(checkout)
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
