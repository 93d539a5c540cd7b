"""An archive of Debian packages for hosts that reach no other: the distribution's PostgreSQL and a stand-in driver.

python tests/fleet/packages.py      make it now (needs root and a Debian mirror), and print where it is
"""

import fcntl
import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path

from fleet import rootfs
from fleet.layers import a_copy_of

# Ansible's apt module brings python3-apt along where it is missing.
WANTED = ("postgresql", "python3-apt")
DRIVER = "gpu-driver-standin"
DRIVER_CONTROL = f"""\
Package: {DRIVER}
Version: 1
Architecture: all
Maintainer: nobody
Description: stands for the packages of a GPU driver
"""
# Where a host sees the archive, and what it says of it.
FOLDER = "/srv/packages"
SOURCES = f"deb [trusted=yes] file:{FOLDER} ./\n"


def prepared() -> Path:
    """The folder of the archive, made for the hosts' file system now if it is not there. Raises CalledProcessError."""
    base = rootfs.prepared()
    recipe = "\n".join((base.name, *WANTED, DRIVER_CONTROL))
    folder = rootfs.CACHE / f"packages-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"
    with (rootfs.CACHE / "packages.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            _make(folder, base)
    return folder


def _make(folder: Path, base: Path) -> None:
    unfinished = folder.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    with a_copy_of(base) as root:
        shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
        for argv in (("update", "-qq"), ("install", "-qq", "--yes", "--download-only", *WANTED)):
            subprocess.run(["chroot", str(root), "apt-get", *argv], check=True, capture_output=True)  # noqa: S607 - root's own PATH
        for package in (root / "var/cache/apt/archives").glob("*.deb"):
            shutil.copy(package, unfinished)
    _build_driver(unfinished)
    (unfinished / "Packages").write_text("\n".join(_entry(package) for package in sorted(unfinished.glob("*.deb"))))
    unfinished.rename(folder)


def _build_driver(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as tree:
        control = Path(tree, "DEBIAN/control")
        control.parent.mkdir()
        control.write_text(DRIVER_CONTROL)
        Path(tree).chmod(0o755)
        argv = ["dpkg-deb", "--root-owner-group", "--build", tree, str(folder / f"{DRIVER}.deb")]
        subprocess.run(argv, check=True, capture_output=True)


def _entry(package: Path) -> str:
    """What an archive's index says of a package."""
    argv = ["dpkg-deb", "--field", str(package)]
    control = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    digest = hashlib.sha256(package.read_bytes()).hexdigest()
    return f"{control}Filename: ./{package.name}\nSize: {package.stat().st_size}\nSHA256: {digest}\n"


if __name__ == "__main__":
    print(prepared())  # noqa: T201 - a command
