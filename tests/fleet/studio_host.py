"""Studio on a test host, laid out as an installed fleet has it, but for one thing: the code is this checkout, seen read-only.

Users, units, polkit rule and folders are the shipped ones. The environment at ``/opt/vllm-studio/venv`` is the host's own Python
with the packages of the environment that the tests run in; nothing is installed, so a host is ready to boot in a second.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fleet.hosts import Host

CHECKOUT = Path(__file__).parents[2]
PACKAGES = Path(pytest.__file__).parents[1]
INSTALLED = "/opt/vllm-studio"
PYTHON = f"{INSTALLED}/venv/bin/python"
SOURCES = ("proto", "runtime", "agent", "coordinator", "gateway", "cli")
UNITS = ("studio-agent.service", "studio-engine@.service", "studio-engines.slice")


def install(host: Host) -> None:
    """Put Studio on a host that is off."""
    host.binds |= {CHECKOUT: f"{INSTALLED}/checkout", PACKAGES: f"{INSTALLED}/packages"}
    root, shipped = host.root, CHECKOUT / "systemd"
    for unit in UNITS:
        shutil.copy(shipped / unit, root / "etc/systemd/system" / unit)
    shutil.copy(shipped / "50-vllm-studio.rules", root / "etc/polkit-1/rules.d")
    shutil.copy(shipped / "vllm-studio.sysusers.conf", root / "usr/lib/sysusers.d/vllm-studio.conf")
    shutil.copy(shipped / "vllm-studio.tmpfiles.conf", root / "usr/lib/tmpfiles.d/vllm-studio.conf")
    _chroot(root, "systemd-sysusers")
    _chroot(root, "python3", "-m", "venv", "--without-pip", f"{INSTALLED}/venv")
    (site_packages,) = (root / f"{INSTALLED}/venv/lib".lstrip("/")).glob("python3.*/site-packages")
    ours = f"python{sys.version_info.major}.{sys.version_info.minor}"
    assert site_packages.parent.name == ours, f"the host has {site_packages.parent.name}, the packages are for {ours}"
    paths = [f"{INSTALLED}/packages", *(f"{INSTALLED}/checkout/{source}" for source in SOURCES)]
    (site_packages / "checkout.pth").write_text("\n".join(paths))


def _chroot(root: Path, *argv: str) -> None:
    subprocess.run(["chroot", str(root), *argv], check=True, capture_output=True)  # noqa: S607 - root's own PATH
