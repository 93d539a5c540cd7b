"""Put everything that a fleet is installed from into one archive, which hosts without a network can use.

python ansible/wheelhouse.py OUT                          OUT/vllm-studio-VERSION.tar: this checkout's wheel and what it needs
python ansible/wheelhouse.py OUT --extras agent,gateway   without what the other roles need

Packages are those of requirements.lock, downloaded by hash as wheels for the Python and machine that run this. Hosts need the
same Python version. Downloads are kept and not repeated. The gateway's data path is compiled where this machine can: build on
a system that is no newer than the hosts'. ``STUDIO_COMPILE=0`` leaves it as it is.
"""

import argparse
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = "vllm-studio"
EXTRAS = "agent,coordinator,gateway,embedded"
# An entry of the lock begins at the start of a line; its hashes follow, indented.
ENTRY = re.compile(r"\n(?=[A-Za-z0-9])")
DOWNLOAD = ("download", "--no-deps", "--only-binary", ":all:", "--require-hashes")
NAME = re.compile(r"[A-Za-z0-9._-]+(?===)")


def needed(extras: frozenset[str]) -> set[str]:
    """Names of all packages that the project with ``extras`` needs, directly or not, as this environment has them."""
    found: set[str] = set()
    left = [(PROJECT, extras)]
    seen: set[tuple[str, frozenset[str]]] = set()
    while left:
        name, wanted = left.pop()
        if (name, wanted) in seen:
            continue
        seen.add((name, wanted))
        for line in requires(name) or ():
            requirement = Requirement(line)
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *wanted)):
                left.append((canonicalize_name(requirement.name), frozenset(requirement.extras)))
        found.add(name)
    return found - {PROJECT}


def locked(lock: str, names: set[str]) -> dict[str, str]:
    """The entries of ``lock`` for ``names``, hashes included."""
    entries = {canonicalize_name(name[0]): entry for entry in ENTRY.split(lock) if (name := NAME.match(entry))}
    if absent := names - set(entries):
        sys.exit(f"requirements.lock does not have {', '.join(sorted(absent))}; run `make lock`")
    return {name: entries[name] for name in sorted(names)}


def pip(*arguments: str, stderr: int | None = None) -> None:
    """Run pip of this environment. Raises CalledProcessError."""
    argv = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    subprocess.run(argv, check=True, stderr=stderr)


def own_wheel(checkout: Path, out: Path, version: str) -> Path:
    """Build this project's wheel in ``out``. Raises CalledProcessError."""
    for earlier in out.glob(f"vllm_studio-{version}-*.whl"):
        earlier.unlink()
    compiler = [sys.executable, str(checkout / "gateway" / "compile.py")]
    lack = subprocess.run([*compiler, "--check"], check=False, capture_output=True, text=True)
    if lack.returncode:
        sys.stderr.write(f"{lack.stderr.strip()} It serves all the same, at about two thirds of the speed.\n")
    os.environ.setdefault("STUDIO_COMPILE", "0" if lack.returncode else "1")
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(out), str(checkout))
    (ours,) = out.glob(f"vllm_studio-{version}-*.whl")
    return ours


def build(checkout: Path, out: Path, wheels: Path, extras: frozenset[str]) -> Path:
    """Make the archive in ``out``, of wheels that are kept in ``wheels``. Returns where it is."""
    for folder in (out, wheels):
        folder.mkdir(parents=True, exist_ok=True)
    version = tomllib.loads((checkout / "pyproject.toml").read_text())["project"]["version"]
    packages = locked((checkout / "requirements.lock").read_text(), needed(extras))
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as requirements:
        requirements.write("\n".join(packages.values()))
        requirements.flush()
        download = (*DOWNLOAD, "--find-links", str(wheels), "--dest", str(wheels), "--requirement", requirements.name)
        try:
            pip(*download, "--no-index", stderr=subprocess.DEVNULL)
        except subprocess.CalledProcessError:
            # Not all of them are here yet.
            pip(*download)
    ours = own_wheel(checkout, out, version)
    archive = out / f"{PROJECT}-{version}.tar"
    unfinished = archive.with_suffix(".unfinished")
    with tarfile.open(unfinished, "w") as tar:
        for file in (ours, *sorted(wheels.glob("*.whl"))):
            name, its_version, *_ = file.name.split("-")
            spelt, _, in_lock = packages.get(canonicalize_name(name), "").partition("==")
            if file == ours or (spelt and in_lock.split()[0] == its_version):
                tar.add(file, file.name)
    unfinished.replace(archive)
    return archive


def main() -> None:
    """Read the command line, build, and say where the archive is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--checkout", type=Path, default=Path(__file__).parents[1])
    parser.add_argument("--extras", default=EXTRAS, help="(default: %(default)s)")
    parser.add_argument("--wheels", type=Path, help="where downloads are kept (default: OUT/wheels)")
    given = parser.parse_args()
    wheels = given.wheels or given.out / "wheels"
    sys.stdout.write(f"{build(given.checkout, given.out, wheels, frozenset(given.extras.split(',')))}\n")


if __name__ == "__main__":
    main()
