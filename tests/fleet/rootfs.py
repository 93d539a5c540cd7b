"""The file system that every test host boots from: a small Debian with systemd, made once and kept in the user's cache.

python tests/fleet/rootfs.py        make it now (about a minute, needs root and a Debian mirror), and print where it is
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "vllm-studio"
SUITE = "bookworm"
# Empty: the one that debootstrap knows by itself.
MIRROR = os.environ.get("STUDIO_DEBIAN_MIRROR", "")
PACKAGES = (
    # polkitd wants a login manager, and debootstrap does not follow what has alternatives.
    *("systemd", "systemd-sysv", "libpam-systemd", "dbus", "polkitd", "procps", "iproute2"),
    *("python3", "python3-venv", "openssh-server", "sudo", "ca-certificates"),
)
# Program, and the package of this machine's own Debian that brings it.
TOOLS = {
    "debootstrap": "debootstrap",
    "systemd-nspawn": "systemd-container",
    "ip": "iproute2",
    "nsenter": "util-linux",
}


def ensure_tools() -> None:
    """Install what boots hosts, where it is missing. Raises CalledProcessError."""
    missing = [package for program, package in TOOLS.items() if shutil.which(program) is None]
    if missing:
        noninteractive = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "update", "-qq"], check=True, env=noninteractive)  # noqa: S607 - root's own PATH
        subprocess.run(["apt-get", "install", "-y", "-qq", *missing], check=True, env=noninteractive)  # noqa: S607


def prepared() -> Path:
    """The folder of the root file system; made now if it is not there. It is shared: mount it as a lower layer only."""
    recipe = "\n".join((SUITE, *PACKAGES))
    folder = CACHE / f"rootfs-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "rootfs.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            _make(folder)
    return folder


def _make(folder: Path) -> None:
    ensure_tools()
    unfinished = folder.with_suffix(".unfinished")
    _clear(unfinished)
    included = f"--include={','.join(PACKAGES)}"
    made = subprocess.run(
        ["debootstrap", "--variant=minbase", included, SUITE, str(unfinished), *([MIRROR] if MIRROR else [])],  # noqa: S607 - root's own PATH
        check=False,
        capture_output=True,
        text=True,
    )
    if made.returncode:
        raise RuntimeError(f"debootstrap failed; its log is below {unfinished / 'debootstrap'}:\n{made.stdout[-3000:]}")
    # What no two hosts may share is made anew by each at its first boot; packages that were unpacked are not needed again.
    (unfinished / "etc/machine-id").write_text("")
    for key in (unfinished / "etc/ssh").glob("ssh_host_*"):
        key.unlink()
    for archive in (unfinished / "var/cache/apt/archives").glob("*.deb"):
        archive.unlink()
    unfinished.rename(folder)


def _clear(unfinished: Path) -> None:
    """Remove what an earlier try left, but not what it had mounted there."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        if (mounted := line.split()[1]).startswith(f"{unfinished}/"):
            subprocess.run(["umount", mounted], check=True)  # noqa: S607 - root's own PATH
    if unfinished.exists():
        shutil.rmtree(unfinished)


if __name__ == "__main__":
    print(prepared())  # noqa: T201 - a command
