"""Studio on a test host, laid out as an installed fleet has it, but for one thing: the code is this checkout, seen read-only.

Users, units, polkit rule and folders are the shipped ones. The environment at ``/opt/vllm-studio/current`` is the host's own
Python with the packages of the environment that the tests run in; nothing is installed, so a host is ready to boot in a second.
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
RELEASE = f"{INSTALLED}/releases/checkout"
PYTHON = f"{INSTALLED}/current/bin/python"
SOURCES = ("proto", "runtime", "agent", "coordinator", "gateway", "cli")
UNITS = (
    *("studio-agent.service", "studio-engine@.service", "studio-engines.slice"),
    *("studio-coordinator.service", "studio-postgres.service", "studio-gateway.service"),
)
ROLES = ("agent", "coordinator", "gateway")
# As an installer writes it.
SCRIPT = """#!{python}
import sys
from studio_{role}.__main__ import main
sys.exit(main())
"""


def install(host: Host) -> None:
    """Put Studio on a host that is off."""
    host.binds |= {CHECKOUT: f"{INSTALLED}/checkout", PACKAGES: f"{INSTALLED}/packages"}
    root, shipped = host.root, CHECKOUT / "systemd"
    for unit in UNITS:
        shutil.copy(shipped / unit, root / "etc/systemd/system" / unit)
    shutil.copy(shipped / "50-vllm-studio.rules", root / "etc/polkit-1/rules.d")
    for role in ROLES:
        shutil.copy(shipped / f"vllm-studio-{role}.sysusers.conf", root / f"usr/lib/sysusers.d/vllm-studio-{role}.conf")
    shutil.copy(shipped / "vllm-studio-agent.tmpfiles.conf", root / "usr/lib/tmpfiles.d/vllm-studio-agent.conf")
    _chroot(root, "systemd-sysusers")
    _chroot(root, "python3", "-m", "venv", "--without-pip", RELEASE)
    (root / f"{INSTALLED}/current".lstrip("/")).symlink_to("releases/checkout")
    for role in ROLES:
        host.write(f"{RELEASE}/bin/studio-{role}", SCRIPT.format(python=f"{RELEASE}/bin/python", role=role), 0o755)
    (site_packages,) = (root / f"{RELEASE}/lib".lstrip("/")).glob("python3.*/site-packages")
    ours = f"python{sys.version_info.major}.{sys.version_info.minor}"
    assert site_packages.parent.name == ours, f"the host has {site_packages.parent.name}, the packages are for {ours}"
    paths = [f"{INSTALLED}/packages", *(f"{INSTALLED}/checkout/{source}" for source in SOURCES)]
    (site_packages / "checkout.pth").write_text("\n".join(paths))


def _chroot(root: Path, *argv: str) -> None:
    subprocess.run(["chroot", str(root), *argv], check=True, capture_output=True)  # noqa: S607 - root's own PATH
